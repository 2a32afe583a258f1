from .dataset import Dataset as Dataset
from .load import load_data as load_data
