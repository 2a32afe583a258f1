from .sequential import SequentialTest as SequentialTest
from .several_datasets import Demsar as Demsar
from .several_datasets import over_datasets as over_datasets
from .verdict import Evidence as Evidence
from .verdict import Verdict as Verdict
from .verdict import evidence as evidence
from .verdict import holm as holm
from .verdict import judge as judge
