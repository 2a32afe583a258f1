from .dask import Cluster as Cluster
from .processes import WorkerExecutor as WorkerExecutor
from .processes import WorkerPool as WorkerPool
