"""The command `bandicoot api`: serving recommendations on request.

What is served belongs to bandicoot_api, the commands for its keys to cli_api_keys.
"""

import click

from bandicoot_core.errors import InvalidInputError
from bandicoot_dagster.cli_api_keys import keys
from bandicoot_dagster.clock import system_clock


@click.group(invoke_without_command=True)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to serve on.")
@click.option("--port", default=8080, show_default=True, type=click.IntRange(1, 65535), help="Port to serve on.")
@click.pass_context
def api(context: click.Context, host: str, port: int) -> None:
    """Serve recommendations, lists and the call sheet over HTTP, until interrupted; or look after its keys."""
    if context.invoked_subcommand is not None:
        return
    try:
        from bandicoot_api.serve import serve
    except ModuleNotFoundError as error:
        raise InvalidInputError(
            f"the service needs {error.name}, which is not installed; install its extra: pip install 'bandicoot[api]'"
        ) from error

    serve(host=host, port=port, clock=system_clock)


api.add_command(keys)
