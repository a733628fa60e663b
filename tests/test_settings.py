"""Flags and TAGLOOP_ variables: precedence, conversion, and every way to get them wrong."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from demo import settings as settings_module
from demo.errors import BadInput
from demo.flags import COMMANDS, parse_flags
from demo.settings import Settings

UNITS = {
    *("BYTES", "PIXELS", "RATIO", "FRAMES", "ENTRIES", "DECISIONS", "CHARACTERS", "CHIPS", "ONCE", "SECONDS", "DRAFTS"),
    *("HEATMAPS", "SHEETS", "VOCABULARIES", "IMAGES", "RUNS", "ADDRESSES", "SESSIONS"),
}
NEEDED = ["--csv", "c.csv", "--out", "o"]
CONTRACT = {
    "app": "--model --corrections --images --device --host --port --mcp",
    "tag": "--model --threshold --out --scores --batch-size --workers --device --resume",
    "finetune": "--csv --out --model --labels --epochs --unknown --new-labels --train --loss --half --seed --resume "
    "--check",
    "evaluate": "--csv --model --split --json --predictions",
}


def is_limit(name):
    return name.isupper() and (name.startswith(("MAX_", "MIN_")) or name.endswith(("_AT_ONCE", "_SECONDS")))


@pytest.mark.parametrize("command", CONTRACT)
def test_every_flag_of_the_contract_is_there(command):
    assert set(CONTRACT[command].split()) <= {f"--{flag.name}" for flag in COMMANDS[command]}


def test_defaults_are_those_of_the_contract():
    flags = parse_flags("finetune", NEEDED, {})
    assert (flags.unknown, flags.new_labels, flags.train, flags.loss) == ("distill", "add", "auto", "bce")
    assert parse_flags("evaluate", ["--csv", "c.csv"], {}).split == "valid"


def test_a_flag_wins_over_its_variable_and_that_over_the_default():
    environment = {"TAGLOOP_UNKNOWN": "ignore", "TAGLOOP_HALF": "1"}
    flags = parse_flags("finetune", NEEDED, environment)
    assert (flags.unknown, flags.half) == ("ignore", True)
    flags = parse_flags("finetune", [*NEEDED, "--unknown", "negative", "--no-half"], environment)
    assert (flags.unknown, flags.half) == ("negative", False)


def test_a_variable_of_another_command_is_no_error_here():
    assert parse_flags("evaluate", ["--csv", "c"], {"TAGLOOP_UNKNOWN": "ignore"}).csv == "c"


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        ([*NEEDED, "--unknwon", "x"], {}, "unrecognized arguments: --unknwon"),
        (NEEDED, {"TAGLOOP_UNKNWON": "x"}, "TAGLOOP_UNKNWON belongs to no flag"),
        (["--out", "o"], {}, "--csv is required"),
        ([*NEEDED, "--unknown", "maybe"], {}, "distill, ignore, negative"),
        ([*NEEDED, "--seed", "-1"], {}, "--seed is '-1'"),
        ([*NEEDED, "--mosaic", "1.5"], {}, "from 0 to 1"),
        ([*NEEDED, "--lr-head", "nan"], {}, "finite"),
        (NEEDED, {"TAGLOOP_HALF": "maybe"}, "TAGLOOP_HALF is 'maybe'"),
        (NEEDED, {"TAGLOOP_EPOCHS": "few"}, "TAGLOOP_EPOCHS is 'few'"),
    ],
)
def test_what_cannot_be_used_is_named(arguments, environment, said):
    with pytest.raises(BadInput, match=said):
        parse_flags("finetune", arguments, environment)


def test_the_app_takes_gradios_own_variables_and_its_flags_win():
    environment = {"GRADIO_SERVER_NAME": "127.0.0.2", "GRADIO_SERVER_PORT": "8000"}
    assert (Settings.from_flags([], environment).host, Settings.from_flags([], environment).port) == ("127.0.0.2", 8000)
    flagged = Settings.from_flags(["--host", "127.0.0.1", "--port", "9"], environment)
    assert (flagged.host, flagged.port) == ("127.0.0.1", 9)
    with pytest.raises(BadInput, match="GRADIO_SERVER_PORT"):
        Settings.from_flags([], {"GRADIO_SERVER_PORT": "http"})
    with pytest.raises(BadInput, match="not a folder"):
        Settings.from_flags(["--images", "/nowhere"], {})


@pytest.mark.parametrize(("given", "allowed"), [("timm, owner/name", ("timm", "owner/name")), ("none", ()), ("", None)])
def test_the_models_that_visitors_may_load_are_owners_and_repos(given, allowed):
    assert Settings.from_flags([], {"TAGLOOP_ALLOW_MODELS": given}).allow_models == allowed
    with pytest.raises(BadInput, match="Owners and repos"):
        Settings.from_flags(["--allow-models", "a/b/c"], {})


@pytest.mark.parametrize(
    ("environment", "is_public"),
    [
        ({}, False),
        ({"GRADIO_SERVER_NAME": "localhost"}, False),
        ({"GRADIO_SERVER_NAME": "127.0.0.2"}, False),
        ({"GRADIO_SERVER_NAME": "::1"}, False),
        ({"GRADIO_SERVER_NAME": "0.0.0.0"}, True),
        ({"GRADIO_SERVER_NAME": "::"}, True),
        ({"GRADIO_SERVER_NAME": "example.org"}, True),
        ({"SPACE_ID": "owner/space"}, True),
    ],
)
def test_a_space_and_any_address_but_ones_own_are_public_and_fine_tune_nothing(environment, is_public):
    settings = Settings.from_flags(["--auth", "none"], environment)
    assert (settings.is_public, settings.retraining) == (is_public, not is_public)
    assert (settings.log, settings.max_saves_per_hour is not None) == (is_public, is_public)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_a_host_that_others_reach_asks_who_may_come(host, tmp_path):
    for arguments, environment in ((["--host", host], {}), ([], {"GRADIO_SERVER_NAME": host})):
        with pytest.raises(BadInput, match=r"nothing asks who is there.*--auth FILE.*--auth none"):
            Settings.from_flags(arguments, environment)
    accounts = tmp_path / "accounts"
    accounts.write_text("ann:secret\n")
    assert Settings.from_flags(["--host", host, "--auth", "none"], {}).is_open
    known = Settings.from_flags(["--host", host], {"TAGLOOP_AUTH": str(accounts)})
    assert (known.is_open, known.accounts, known.max_saves_per_hour) == (False, (("ann", "secret"),), None)


def test_a_space_and_ones_own_machine_need_no_login_and_may_have_one(tmp_path):
    (tmp_path / "accounts").write_text("ann:secret\n")
    for environment in ({}, {"SPACE_ID": "owner/space", "GRADIO_SERVER_NAME": "0.0.0.0"}):
        assert Settings.from_flags([], environment).accounts == ()
        assert Settings.from_flags(["--auth", str(tmp_path / "accounts")], environment).accounts == (("ann", "secret"),)


def test_no_password_is_shown_where_settings_are(tmp_path):
    (tmp_path / "accounts").write_text("ann:secret\n")
    settings = Settings.from_flags(["--auth", str(tmp_path / "accounts")], {})
    assert "secret" not in f"{settings} {settings!r}"


def test_mcp_and_a_login_exclude_each_other(tmp_path):
    (tmp_path / "accounts").write_text("ann:secret\n")
    with pytest.raises(BadInput, match="no way to log in"):
        Settings.from_flags(["--mcp", "--auth", str(tmp_path / "accounts")], {})


def test_mcp_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setattr(settings_module, "find_spec", lambda name: None if name == "mcp" else pytest.fail(name))
    with pytest.raises(BadInput, match=r'pip install "gradio\[mcp\]"'):
        Settings.from_flags(["--mcp"], {})


def test_every_limit_has_its_unit_in_its_name_and_its_reason_below():
    body = ast.parse(Path(settings_module.__file__).read_text(encoding="utf-8")).body
    limits = [at for at, node in enumerate(body) if isinstance(node, ast.Assign) and is_limit(node.targets[0].id)]
    assert len(limits) > 20
    for at in limits:
        name, reason = body[at].targets[0].id, body[at + 1]
        assert isinstance(reason, ast.Expr), name
        assert len(reason.value.value) > 30, name
        assert name.rpartition("_")[2] in UNITS, name


def test_no_limit_has_a_second_copy():
    copies = []
    for path in sorted((settings_module.ROOT / "demo").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                name = node.targets[0].id
                if hasattr(settings_module, name) and is_limit(name) and path.name != "settings.py":
                    copies.append(f"{path.name}: {name}")
    assert copies == []


def test_the_page_has_the_limits_of_the_settings():
    ui = settings_module.ROOT / "demo" / "ui"
    for page in ("tag_editor", "grid", "label_figures"):
        found = re.findall(r'maxlength="(\d+)"', (ui / f"{page}.html").read_text(encoding="utf-8"))
        assert found == [str(settings_module.MAX_NEW_LABEL_CHARACTERS)], page
    scripts = "".join(path.read_text(encoding="utf-8") for path in ui.glob("*.js"))
    assert "const MAX_CHIPS" not in scripts  # `TagEditor` hands it over
    assert "MAX_CHIPS" in scripts


@pytest.mark.parametrize(
    "command",
    [
        "finetune",
        "tag",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("evaluate", "export", "publish", "sync")),
    ],
)
def test_help_names_every_flag_and_its_variable(command):
    done = subprocess.run(
        [sys.executable, "-m", f"demo.{command}", "--help"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert done.returncode == 0
    for flag in COMMANDS[command]:
        assert f"--{flag.name}" in done.stdout
        assert flag.variable in done.stdout
