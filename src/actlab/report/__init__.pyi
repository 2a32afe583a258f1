from .insights import history_insights as history_insights
