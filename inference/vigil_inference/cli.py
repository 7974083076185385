"""The service's commands, added to ``vigil``. What they need is imported when they are called."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from vigil_inference.settings import Settings


def register(app: typer.Typer) -> None:
    """Add this room's commands to the command line."""
    app.command()(serve)
    app.command()(worker)
    app.command()(send)
    app.command()(worklist)
    from vigil_inference.access import cli as access
    from vigil_inference.audit import cli as audit
    from vigil_inference.delivery import cli as delivery
    from vigil_inference.operations import cli as operations
    from vigil_inference.promotion import cli as promotion
    from vigil_inference.reading import cli as reading

    app.add_typer(access.users, name="users")
    app.add_typer(access.tokens, name="tokens")
    app.add_typer(audit.audit, name="audit")
    app.add_typer(delivery.deliveries, name="deliveries")
    app.add_typer(delivery.rules, name="rules")
    app.add_typer(reading.readings, name="readings")
    operations.register(app)
    promotion.register(app)


def serve(
    config: Annotated[
        Path | None, typer.Option(help="Settings as TOML. [default: $VIGIL_CONFIG, if set]")
    ] = None,
    bundle: Annotated[Path | None, typer.Option(help="The model bundle's folder.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where pictures and records go.")] = None,
    dicom_port: Annotated[int | None, typer.Option(help="Port for C-STORE.")] = None,
    http_port: Annotated[int | None, typer.Option(help="Port for the worklist page.")] = None,
    host: Annotated[str | None, typer.Option(help="Address of the worklist page.")] = None,
) -> None:
    """Receive studies by DICOM and DICOMweb, analyse them, and show the worklist."""
    from vigil_inference.loading import nothing_is_garbage

    with nothing_is_garbage():
        from vigil_inference.logs import configure_logs
        from vigil_inference.settings import load_settings

    settings = load_settings(
        config,
        bundle=bundle,
        data_dir=data_dir,
        dicom_port=dicom_port,
        http_port=http_port,
        http_host=host,
    )
    if bundle is not None:
        _check_named(bundle)
    # Pictures, previews and the database are patient data: for this user's eyes only.
    os.umask(0o077)
    configure_logs(settings.log_format)
    _run(settings)


def _check_named(bundle: Path) -> None:
    """Refuse a mistyped folder; one from the settings may come later (a volume not mounted yet)."""
    from vigil.bundle import MANIFEST_NAME
    from vigil.errors import BundleError

    if not (bundle / MANIFEST_NAME).is_file():
        raise BundleError(f"{bundle}: there is no bundle ({MANIFEST_NAME} is missing)")


def _run(settings: "Settings") -> None:
    """Serve until a signal says to stop."""
    import socket

    from vigil_inference.loading import nothing_is_garbage

    with nothing_is_garbage():
        import uvicorn

        from vigil import RESEARCH_USE
        from vigil.errors import ConfigurationError
        from vigil_inference.access.first_start import tell_first_password
        from vigil_inference.app import create_app
        from vigil_inference.intake import errno_name
        from vigil_inference.operations.opening import Opening
        from vigil_inference.operations.stopping import end_in_time
        from vigil_inference.service import Service, log

    if not settings.is_local_only:
        log.warning(
            "http_without_tls", host=settings.http_host, advice="put it behind a proxy with TLS"
        )
    family = socket.AF_INET6 if ":" in settings.http_host else socket.AF_INET
    try:
        listening = socket.create_server((settings.http_host, settings.http_port), family=family)
    except OSError as error:
        address = f"{settings.http_host}:{settings.http_port}"
        raise ConfigurationError(f"HTTP {address} cannot be bound ({errno_name(error)})") from error
    shown = f"[{settings.http_host}]" if ":" in settings.http_host else settings.http_host
    url = f"http://{shown}:{listening.getsockname()[1]}"

    def tell(service: Service) -> None:
        tell_first_password(service.access, settings)
        typer.echo(f"Worklist  {url}/")
        typer.echo(f"STOW-RS   {url}/dicomweb/studies")
        typer.echo(
            f"C-STORE   {settings.dicom_ae_title}@{settings.dicom_host}:{service.listener.port}"
        )
        typer.echo(f"{RESEARCH_USE}. Ctrl-C stops it.")

    def give_up() -> None:
        server.should_exit = True

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            end_in_time(settings.stop_seconds)
            if opening.service is not None:
                opening.service.hub.close()  # open live streams would hold the shutdown up
            await super().shutdown(sockets)

    opening = Opening(lambda: Service(settings), tell, give_up)
    server = Server(
        uvicorn.Config(
            create_app(settings, opening),
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=5,
            timeout_keep_alive=30,
            forwarded_allow_ips=[str(network) for network in settings.http_trusted_proxies],
        )
    )
    with listening:
        server.run(sockets=[listening])
    if opening.error is not None:
        raise opening.error
    if not server.started:
        raise typer.Exit(1)


def worker(
    config: Annotated[
        Path | None, typer.Option(help="Settings as TOML. [default: $VIGIL_CONFIG, if set]")
    ] = None,
    bundle: Annotated[Path | None, typer.Option(help="The model bundle's folder.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="The folder that all nodes share.")] = None,
) -> None:
    """Analyse and deliver what other nodes receive; PostgreSQL and one shared folder."""
    import signal
    import threading

    from vigil_inference.loading import nothing_is_garbage

    with nothing_is_garbage():
        from vigil import RESEARCH_USE
        from vigil.errors import ConfigurationError
        from vigil_inference.database import is_sqlite
        from vigil_inference.logs import configure_logs
        from vigil_inference.operations.stopping import end_in_time
        from vigil_inference.service import Service
        from vigil_inference.settings import load_settings

    settings = load_settings(config, bundle=bundle, data_dir=data_dir)
    if is_sqlite(settings.database):
        raise ConfigurationError(
            "database_url: a worker shares its database with other nodes; expected "
            "postgresql://USER@HOST/DATABASE, found SQLite"
        )
    if bundle is not None:
        _check_named(bundle)
    os.umask(0o077)
    configure_logs(settings.log_format)
    service = Service(settings, has_doors=False)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    service.start()
    typer.echo(f"Worker of {settings.data_dir.absolute()}")
    typer.echo(f"{RESEARCH_USE}. Ctrl-C stops it.")
    stopping.wait()
    end_in_time(settings.stop_seconds)
    service.stop()


def send(
    paths: Annotated[list[Path], typer.Argument(help="DICOM files, or folders of them.")],
    to: Annotated[str, typer.Option(help="The receiver, as HOST:PORT.")] = "127.0.0.1:11112",
    aet: Annotated[str, typer.Option(help="The receiver's application entity title.")] = "VIGIL",
    calling: Annotated[str, typer.Option(help="Our own title.")] = "VIGIL_SEND",
) -> None:
    """Send DICOM files by C-STORE, as they are; exit 1 if one was not stored."""
    from vigil.folder import pictures_in
    from vigil_inference.sender import parse_peer
    from vigil_inference.sender import send as send_files

    host, port = parse_peer(to)
    files = pictures_in(paths)
    stored = told = 0
    for sent in send_files(files, host, port, calling_ae_title=calling, called_ae_title=aet):
        told += 1
        stored += sent.succeeded
        typer.echo(f"{'stored' if sent.succeeded else 'FAILED'}  {sent.path}  {sent.message}")
    if told < len(files):
        typer.echo(f"stopped; {len(files) - told} more were not tried", err=True)
    typer.echo(f"{stored} of {len(files)} stored" if files else "no file to send", err=True)
    if stored < len(files) or not files:
        raise typer.Exit(1)


def worklist(
    url: Annotated[str, typer.Option(help="Where the service is.")] = "http://127.0.0.1:8080",
    order: Annotated[str, typer.Option(help="priority or arrival.")] = "priority",
    limit: Annotated[int, typer.Option(help="How many studies.", min=1, max=500)] = 50,
    token: Annotated[
        str, typer.Option(envvar="VIGIL_TOKEN", help="Of `vigil tokens create`.")
    ] = "",
) -> None:
    """Print a running service's worklist in reading order."""
    from vigil_inference.terminal import fetch_worklist, print_worklist

    print_worklist(fetch_worklist(url, order, limit, token))
