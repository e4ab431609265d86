"""The one partition axis: the currency pair."""

import warnings

import dagster as dg

# A gate without partitions_def has one status for all pairs, so one pair's pass would open another's.
# Dagster marks the argument as preview, at every definition.
warnings.filterwarnings(
    "ignore", message="Specifying a partitions_def on an AssetCheckSpec", category=dg.PreviewWarning
)

symbols = dg.DynamicPartitionsDefinition(name="symbol")
