from .dask import Cluster as Cluster
from .processes import Processes as Processes
from .processes import WorkerExecutor as WorkerExecutor
