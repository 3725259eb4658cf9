"""Generator of the reference pages that follow from the code: docs/settings.md, every setting of every service.

python -m docs.generate
"""

from pathlib import Path

from caption_svc.settings import CaptionSettings
from encoder_svc.settings import EncoderSettings
from http_svc.settings import HttpSettings
from lensmesh_chassis.settings import ServiceSettings, describe
from router_svc.settings import RouterSettings
from search_svc.settings import SearchSettings

DOCS = Path(__file__).resolve().parent
SERVICES: dict[str, type[ServiceSettings]] = {
    "Router": RouterSettings,
    "Encoder": EncoderSettings,
    "Captioner": CaptionSettings,
    "Search": SearchSettings,
    "Front door": HttpSettings,
}
SHARED = frozenset(ServiceSettings.model_fields)

HEAD = """# Settings

<!-- Made by `make docs` from the settings classes; edit those. -->

Every setting is an environment variable. A variable with a service's prefix that is no setting ends the start and
names the one that was probably meant; the variables that Kubernetes adds for its Services are ignored. Each service
logs its settings at start, secrets hidden. OpenTelemetry is set by its own standard variables: traces are exported
where `OTEL_EXPORTER_OTLP_ENDPOINT` is set, and cost nothing where it is not. Two variables of all services and of the
command add to them: `LENSMESH_TRACES_BULK_RATIO` (default 0.05), the largest share of bulk traces to keep, and
`LENSMESH_TRACES_CONTENT` (default off), whether spans may show query texts; see [tracing](tracing.md).
"""


def rows(cls: type[ServiceSettings], *, shared: bool) -> list[str]:
    """Return the table of one settings class.

    That is the settings of all services, or its own and those that it gives another default.
    """
    own = []
    for name, setting in zip(cls.model_fields, describe(cls), strict=True):
        same = name in SHARED and cls.model_fields[name].default == ServiceSettings.model_fields[name].default
        if same == shared:
            default = f"`{setting.default}`" if setting.default else "empty"
            own.append(f"| `{setting.env}` | {default} | {setting.description.replace('|', chr(92) + '|')} |")
    return ["| variable | default | meaning |", "|---|---|---|", *own, ""]


def settings_page() -> str:
    """Return the text of docs/settings.md."""
    lines = [HEAD, "## All services", "Shown with the Router's prefix; each service has its own.", ""]
    lines += rows(RouterSettings, shared=True)
    for name, cls in SERVICES.items():
        prefix = cls.model_config.get("env_prefix", "")
        lines += [f"## {name}: `{prefix}…`", "", *rows(cls, shared=False)]
    return "\n".join(lines)


def main() -> None:
    """Write the pages."""
    (DOCS / "settings.md").write_text(settings_page())


if __name__ == "__main__":
    main()
