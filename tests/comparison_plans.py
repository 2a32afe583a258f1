"""Helpers that create plans of comparisons and their untrained networks."""

from actlab.comparison.config import ComparisonConfig
from actlab.comparison.plan import ComparisonPlan
from actlab.training.settings import TrainSettings


def make_plan(dataset, activations, settings=None, **options):
    settings = settings or TrainSettings()
    options = {"tune": None, **options}
    return ComparisonPlan(
        ComparisonConfig(activations=activations, dataset=dataset, settings=settings, **options)
    )


def plan_runs(dataset, activations, settings=None, *, seeds=1, **options):
    """Return the runs of activations with ``seeds`` seeds, which share splits as in a comparison."""
    return make_plan(dataset, activations, settings, seeds=seeds, **options).runs(activations, range(seeds))


def build_network(dataset, module, activation, **options):
    return plan_runs(dataset, [activation], module=module, **options)[0].run.build()
