from .sequential import SequentialTest as SequentialTest
from .several_datasets import MultiDatasetResult as MultiDatasetResult
from .several_datasets import compare_over_datasets as compare_over_datasets
from .verdict import DifferenceSummary as DifferenceSummary
from .verdict import Verdict as Verdict
from .verdict import holm as holm
from .verdict import judge as judge
from .verdict import summarize_differences as summarize_differences
