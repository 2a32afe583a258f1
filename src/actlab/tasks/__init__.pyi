from .registry import list_tasks as list_tasks
from .registry import load_task as load_task
from .task import Task as Task
from .task_comparison import TaskComparison as TaskComparison
from .task_comparison import compare_tasks as compare_tasks
