from .dataset import Dataset as Dataset
from .dataset import load_data as load_data
