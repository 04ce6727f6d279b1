# SPDX-License-Identifier: GPL-3.0-or-later
"""A destroy removes exactly the deployed objects, and only after confirmation."""

from __future__ import annotations

import shutil
import subprocess

from ansible_collections.crypto_lakehouse.platform.tests.integration.deploy.lakehouse import Lakehouse, assert_whole


def test_nothing_is_destroyed_without_confirmation(lakehouse: Lakehouse) -> None:
    run = lakehouse.run("destroy").must_fail()
    assert "is not confirmed. Remedy: add -e lakehouse_destroy_confirm=development" in " ".join(run.output.split())
    assert run.changed == 0
    assert_whole(lakehouse)


def test_the_confirmation_of_another_environment_destroys_nothing(lakehouse: Lakehouse) -> None:
    assert lakehouse.destroy(confirm="production").must_fail().changed == 0
    run = lakehouse.destroy(lakehouse_environment="staging", confirm="staging").must_fail()
    assert "is of environment development, not staging" in run.output
    assert_whole(lakehouse)


def test_a_check_of_destruction_destroys_nothing(lakehouse: Lakehouse) -> None:
    run = lakehouse.run("destroy", "--check", lakehouse_destroy_confirm="development", lakehouse_destroy_data=True)
    assert run.must_pass().changed > 0
    assert_whole(lakehouse)


def test_a_folder_that_no_deployment_made_is_not_destroyed(other_place: Lakehouse) -> None:
    other_place.home.mkdir()
    (other_place.home / "thesis.tex").write_text("years of work")
    run = other_place.destroy()
    assert run.changed == 0
    assert (other_place.home / "thesis.tex").read_text() == "years of work"


def test_data_and_secrets_are_kept_and_found_again_by_the_next_deployment(lakehouse: Lakehouse) -> None:
    before, secrets = lakehouse.application("show(rows())"), lakehouse.secrets
    assert before["gold.ohlcv_daily"] > 0
    software = lakehouse.folder / "software"
    subprocess.run(["cp", "--archive", "--link", lakehouse.home / "software", software], check=True)
    lakehouse.destroy(data=False).must_pass()
    assert lakehouse.processes() == {}
    assert {path.name for path in lakehouse.home.iterdir()} == {"data", "secrets", ".crypto-lakehouse.json"}
    assert lakehouse.destroy(data=False).must_pass().changed == 0
    # Other tests cover its installation.
    software.rename(lakehouse.home / "software")
    lakehouse.deploy("--skip-tags", "verify").must_pass()
    assert_whole(lakehouse)
    assert lakehouse.application("show(rows())") == before
    assert lakehouse.secrets == secrets


def test_all_of_it_is_destroyed_except_what_somebody_else_put_there(lakehouse: Lakehouse) -> None:
    foreign = lakehouse.home / "notes.txt"
    foreign.write_text("mine")
    run = lakehouse.destroy().must_pass()
    said = " ".join(run.output.split())
    assert f"The folder stays, since it holds other files: {foreign}." in said
    assert "is removed, with all data and secrets" not in said
    assert [path.name for path in lakehouse.home.rglob("*")] == ["notes.txt"]
    shutil.rmtree(lakehouse.home)
    # The user is kept with the file.
    assert set(lakehouse.leftovers()) <= {f"user {lakehouse.user}"}
    again = lakehouse.destroy().must_pass()
    assert again.changed == 0
    assert "nothing was changed" in again.output
