from .sequential import SequentialTest as SequentialTest
from .several_datasets import MultiDatasetResult as MultiDatasetResult
from .several_datasets import compare_over_datasets as compare_over_datasets
from .verdict import Evidence as Evidence
from .verdict import Verdict as Verdict
from .verdict import evidence as evidence
from .verdict import holm as holm
from .verdict import judge as judge
