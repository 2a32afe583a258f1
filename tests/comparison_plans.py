"""Helpers that create plans of comparisons and their untrained networks."""

import itertools

from actlab.comparison.config import ComparisonConfig
from actlab.comparison.plan import ComparisonPlan
from actlab.training.train import TrainSettings


def make_plan(dataset, activations, settings=None, **options):
    settings = settings or TrainSettings()
    options = {"tune": None, **options}
    return ComparisonPlan(
        ComparisonConfig(activations=activations, dataset=dataset, settings=settings, **options)
    )


def plan_runs(dataset, activations, settings=None, *, seeds=1, **options):
    """Return the runs of activations with ``seeds`` seeds, which share splits as in a comparison."""
    plan = make_plan(dataset, activations, settings, seeds=seeds, **options)
    folds, candidates = range(plan.config.folds), range(len(plan.candidates))
    return [plan.run(*labels) for labels in itertools.product(activations, range(seeds), folds, candidates)]


def build_network(dataset, module, activation, **options):
    return plan_runs(dataset, [activation], module=module, **options)[0].run.build()
