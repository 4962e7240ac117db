"""The command `trawl checkpoint`."""

from pathlib import Path
from typing import Annotated

import typer

from pretrain.cli import Overrides

checkpoint = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="List, show, publish, pull and verify checkpoints.",
    epilog="Example: trawl checkpoint pull s3://bucket/releases/name/stage ./model",
)


@checkpoint.callback()
def _checkpoint() -> None:
    """List, show, publish, pull and verify checkpoints."""


@checkpoint.command(
    epilog="Example: trawl checkpoint publish RUN/stages/in-domain s3://b/r/in-domain"
)
def publish(
    source: Annotated[str, typer.Argument(help="A published stage: its folder.")],
    target: Annotated[str, typer.Argument(help="Folder of its releases: local, or s3:// URI.")],
) -> None:
    """Copy a release to a folder of releases, under its hash, and number it as the latest there.

    The manifest goes last, and what lies there never changes. A release that is there already keeps
    its number: `latest` moves forward only.
    """
    from pretrain.checkpoints import shelf

    content, pointer = shelf.put(source, target)
    print(f"{target}/{shelf.address(content['sha256'])}  number {pointer.number}")


@checkpoint.command(
    epilog="Example: trawl checkpoint pull s3://bucket/releases/r/in-domain ./model"
)
def pull(
    source: Annotated[
        str, typer.Argument(help="A release, or a folder of releases: the latest, or FOLDER@3.")
    ],
    target: Annotated[Path, typer.Argument(help="The local folder that it becomes.")],
) -> None:
    """Fetch a release, each file checked against its SHA-256; go on where a killed pull ended."""
    from pretrain.checkpoints.pull import pull as pull_release

    content = pull_release(source, target)
    print(f"{target}  {content['sha256']}")


@checkpoint.command(epilog="Example: trawl checkpoint verify ./model")
def verify(
    uri: Annotated[str, typer.Argument(help="A release or a training checkpoint.")],
    everything: Annotated[
        bool, typer.Option("--all", help="Fail too when an ancestor or corpus is not at hand.")
    ] = False,
) -> None:
    """Check every file against the manifest, then walk back through parents to the corpora."""
    from pretrain.checkpoints import ancestry
    from pretrain.checkpoints.pull import verify as verify_release
    from pretrain.checkpoints.shelf import resolve
    from trawl.errors import WorkError

    content = verify_release(uri)
    print(f"{uri}: whole, {len(content['files'])} files, {content['sha256']}")
    wrong = []
    for link in ancestry.walk(resolve(uri)):
        state = link.problem or (f"as named, at {link.uri}" if link.uri else "not at hand")
        print(f"{link.kind:<7} {link.name}  {link.sha256[:12]}: {state}")
        if link.problem or (everything and link.uri is None):
            wrong.append(f"{link.kind} {link.name}: {state}")
    if wrong:
        raise WorkError(f"{uri}: its lineage is broken: {wrong[0]}")


@checkpoint.command(
    "import", epilog="Example: trawl checkpoint import base-vg-labels/ep_67 ./oscar --format oscar"
)
def import_original(
    source: Annotated[
        Path, typer.Argument(help="The original: its file of tensors or its folder.")
    ],
    target: Annotated[Path, typer.Argument(help="The release that is made: a new folder.")],
    form: Annotated[
        str,
        typer.Option(
            "--format", help="oscar, vinvl, xvlm, vilbert, vilbert-mt, lxmert, lxmert-hf or bert."
        ),
    ],
    family: Annotated[
        str | None, typer.Option(help="With bert: the family that gets its text weights.")
    ] = None,
    overrides: Overrides = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="Folder of the tokenizer; nothing: the original's.")
    ] = None,
    new_heads: Annotated[
        bool,
        typer.Option("--new-heads", help="Draw heads that a fine-tuned checkpoint lacks."),
    ] = False,
    unsafe_pickle: Annotated[
        bool,
        typer.Option("--unsafe-pickle", help="Read a pickle that may run code: trust its maker."),
    ] = False,
) -> None:
    """Make a release of a checkpoint of the original repositories, strict about its keys.

    --set changes our configuration, for example --set num_attention_heads=4 where no file says it.
    The release serves as `published:` in a recipe; exported in the same format it is the original.
    """
    from pretrain.checkpoints import import_export
    from pretrain.checkpoints.formats import format_named

    request = import_export.ImportRequest(
        source=source,
        target=target,
        form=format_named(form, family),
        overrides=tuple(overrides or ()),
        tokenizer=tokenizer,
        unsafe_pickle=unsafe_pickle,
        new_heads=new_heads,
    )
    print("\n".join(import_export.import_checkpoint(request)))


@checkpoint.command(
    "export", epilog="Example: trawl checkpoint export ./lxmert ./hf --format lxmert-hf"
)
def export_original(
    source: Annotated[Path, typer.Argument(help="A release, or the folder of a saved model.")],
    target: Annotated[Path, typer.Argument(help="New folder, or file of a format of one file.")],
    form: Annotated[
        str,
        typer.Option(
            "--format", help="oscar, vinvl, xvlm, vilbert, vilbert-mt, lxmert, lxmert-hf or bert."
        ),
    ],
    wrapper: Annotated[
        bool,
        typer.Option(
            "--module-prefix",
            help="Begin keys with `module.`: LXMERT's fine-tuning reads no others.",
        ),
    ] = False,
) -> None:
    """Write the files of the original repositories from a model of ours."""
    from pretrain.checkpoints import import_export

    request = import_export.ExportRequest(source, target, form, wrapper)
    print("\n".join(import_export.export_checkpoint(request)))


@checkpoint.command("list", epilog="Example: trawl checkpoint list s3://bucket/releases")
def list_all(
    uri: Annotated[str, typer.Argument(help="A folder of releases, or a run.")],
) -> None:
    """List the releases and training checkpoints at and below a place; a star marks the latest."""
    from pretrain.checkpoints.catalogue import entries
    from trawl.errors import RequestError

    found = entries(uri)
    if not found:
        raise RequestError(f"{uri}: no release and no checkpoint lies there or below")
    for entry in found:
        print(
            f"{entry.kind:<11} {entry.stage:<16} step {entry.step:>8}  "
            f"{entry.bytes / 1e6:9.1f} MB  {entry.sha256[:12]}  {entry.number:>4}  {entry.uri}"
        )


@checkpoint.command(epilog="Example: trawl checkpoint show ./model")
def show(
    uri: Annotated[str, typer.Argument(help="A release or a training checkpoint.")],
) -> None:
    """Show where a release comes from and how good it is, without checking its files."""
    from pretrain.checkpoints.catalogue import description

    print(description(uri))
