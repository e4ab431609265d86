"""`forexgpt campaign list|status`: what training campaigns tried and kept."""

from pathlib import Path
from typing import Annotated

import typer

from forexgpt_core.cli.output import JsonFlag, group, print_json, print_table
from forexgpt_core.composition import Platform
from forexgpt_core.deployment.campaign_documents import campaign_of
from forexgpt_core.deployment.documents import read_yaml
from forexgpt_core.errors import BadInput
from forexgpt_core.optimisation.campaign import Campaign


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    campaign = group(app, "campaign", "Training campaigns: grids of models, and what is kept of them.")

    @campaign.command("list", epilog="Example: forexgpt campaign list --json")
    def list_(as_json: JsonFlag = False) -> None:
        """List every campaign, the newest first."""
        rows = [record.to_row() for record in Platform.prepared().campaigns.all()]
        print_json(rows) if as_json else print_table(rows, f"{len(rows)} campaigns")

    @campaign.command(epilog="Example: forexgpt campaign status spring --json")
    def status(
        name: Annotated[str, typer.Argument(help="Of the campaign.", metavar="NAME")], as_json: JsonFlag = False
    ) -> None:
        """Show how far each member is, how it scored, and the regimes it is best in."""
        show_campaign(Platform.prepared(), name, as_json=as_json)


def show_campaign(platform: Platform, name: str, *, as_json: bool) -> None:
    """Print one campaign with its members; raise UnknownName where there is none."""
    record = platform.campaigns.load(name)
    if as_json:
        members = [one.to_document() for one in record.members]
        document = {**record.to_row(), "error": record.error, "document": record.document, "basis": record.basis}
        print_json({**document, "details": record.details, "member_records": members})
        return
    print_table([one.to_row() for one in record.members], f"campaign {name}: {record.state}")
    for line in record.failures():
        print(f"failed: {line}")
    print(record.details.get("verdict") or "not selected yet")


def read_campaign(path: Path) -> Campaign:
    """Return the campaign of a YAML or JSON file.

    Raises:
        BadInput: the file cannot be read or is no campaign.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"cannot read a campaign from {path}: {getattr(error, 'strerror', None) or error}") from None
    return campaign_of(read_yaml(text, f"campaign {path}"))
