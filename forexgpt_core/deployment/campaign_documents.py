"""Campaigns as plain documents and YAML: unknown keys and wrong types are refused in one line."""

import yaml

from forexgpt_core.deployment.documents import build, read_yaml
from forexgpt_core.optimisation.campaign import Campaign


def campaign_of(document: object) -> Campaign:
    """Return the campaign of a plain document; what it leaves out has its default.

    Raises:
        BadInput: an unknown key, a wrong type, or an unlawful value.
        UnknownName: a pair, timeframe or family that does not exist.
    """
    return build(Campaign, document, "campaign")


def campaign_from_yaml(text: str) -> Campaign:
    """Return the campaign of a YAML document; see `campaign_of`."""
    return campaign_of(read_yaml(text, "campaign"))


def campaign_to_yaml(campaign: Campaign) -> str:
    """Return the campaign as YAML, every setting written out."""
    text: str = yaml.safe_dump(campaign.to_document(), sort_keys=False, allow_unicode=True)
    return text
