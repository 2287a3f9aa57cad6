"""The contract of every sandbox. `test_fake.py`, `test_docker.py` and the launcher's tests run it.

A subclass provides the fixtures `bench`; `image`, which returns the reference of a program in SCRIPTS; and
`spare`, the reference of an image of its own whose program sleeps.
"""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gridapps.sandbox.protocol import ImageGone, ImageUnavailable, NameTaken, SandboxError
from tests.sandbox.conftest import Bench

Image = Callable[[str], str]

SCRIPTS = {
    "copy": "cat; cat /input/pointcloud.laz > /grid/copy",
    "fail": "echo one >&2; printf two >&2; exit 3",
    "sleep": "trap 'exit 9' TERM; echo ready >&2; while true; do sleep 0.05; done",
    "stubborn": "trap '' TERM; echo ready >&2; while true; do sleep 0.05; done",
    "refused": "",
}


class SandboxContract:
    """The suite."""

    def test_a_program_gets_its_arguments_and_input_and_leaves_outputs(
        self, bench: Bench, image: Image
    ) -> None:
        result = bench.run(image("copy"), arguments=b'{"a": 1}')
        assert result.ended.exit_code == 0
        assert result.stdout == '{"a": 1}'
        assert (result.outputs / "copy").read_bytes() == bench.input.read_bytes()
        assert result.ended.started_at <= result.ended.ended_at
        assert result.ended.started_at.tzinfo is not None

    def test_a_failure_keeps_exit_code_and_log(self, bench: Bench, image: Image) -> None:
        result = bench.run(image("fail"))
        assert result.ended.exit_code == 3
        assert result.log == ["one", "two"]
        assert result.ended.not_started == ""

    def test_what_cannot_be_executed_has_ended_with_a_sentence(self, bench: Bench, image: Image) -> None:
        ended = bench.run(image("refused")).ended
        assert ended.exit_code != 0
        assert ended.not_started.endswith(".")

    def test_waiting_is_repeatable(self, bench: Bench, image: Image) -> None:
        name = bench.start(image("fail"))
        assert bench.sandbox.wait(name, timeout=30) == bench.sandbox.wait(name, timeout=0)

    def test_waiting_for_one_that_runs_gives_none_in_time(self, bench: Bench, image: Image) -> None:
        name = bench.start(image("sleep"))
        before = time.monotonic()
        assert bench.sandbox.wait(name, timeout=0.2) is None
        assert 0.15 < time.monotonic() - before < 30

    def test_the_log_can_be_followed_while_it_runs(self, bench: Bench, image: Image) -> None:
        name = bench.start(image("sleep"))
        assert _ready(bench, name)

    def test_term_lets_a_program_end_itself(self, bench: Bench, image: Image) -> None:
        name = bench.start(image("sleep"))
        assert _ready(bench, name)
        bench.sandbox.stop(name, grace=20)
        ended = bench.sandbox.wait(name, timeout=0)
        assert ended is not None
        assert ended.exit_code == 9

    @pytest.mark.parametrize("grace", [0, 0.3])
    def test_one_that_ignores_term_is_killed(self, bench: Bench, image: Image, grace: float) -> None:
        name = bench.start(image("stubborn"))
        assert _ready(bench, name)
        bench.sandbox.stop(name, grace=grace)
        ended = bench.sandbox.wait(name, timeout=0)
        assert ended is not None
        assert ended.exit_code == 137

    def test_stopping_wakes_who_waits(self, bench: Bench, image: Image) -> None:
        name = bench.start(image("stubborn"))
        seen: list[object] = []
        waiting = threading.Thread(target=lambda: seen.append(bench.sandbox.wait(name, timeout=30)))
        waiting.start()
        bench.sandbox.stop(name, grace=0)
        waiting.join(60)
        assert seen == [bench.sandbox.wait(name, timeout=0)]

    def test_stopping_what_ended_or_never_was_is_no_error(self, bench: Bench, image: Image) -> None:
        name = bench.start(image("fail"))
        first = bench.sandbox.wait(name, timeout=30)
        bench.sandbox.stop(name, grace=1)
        bench.sandbox.stop("never-was", grace=1)
        assert bench.sandbox.wait(name, timeout=0) == first

    def test_a_name_starts_once(self, bench: Bench, image: Image) -> None:
        name = bench.start(image("sleep"))
        with pytest.raises(NameTaken):
            bench.sandbox.start(bench.launch(image("sleep"), name=name))
        assert bench.sandbox.wait(name, timeout=0) is None

    def test_of_many_who_start_a_name_one_does(self, bench: Bench, image: Image) -> None:
        launch = bench.launch(image("sleep"))
        outcomes: list[str] = []

        def start() -> None:
            try:
                bench.sandbox.start(launch)
                outcomes.append("started")
            except NameTaken:
                outcomes.append("taken")
            except Exception as error:
                outcomes.append(repr(error))

        threads = [threading.Thread(target=start) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(300)
        assert sorted(outcomes) == ["started", "taken", "taken", "taken"], outcomes

    def test_an_unknown_image_is_refused_and_leaves_nothing(self, bench: Bench) -> None:
        launch = bench.launch("gridapps-test/never-made:1")
        with pytest.raises(ImageUnavailable):
            bench.sandbox.start(launch)
        assert launch.name not in [resident.name for resident in bench.sandbox.residents(labels={})]

    def test_pulling_what_is_there_is_free(self, bench: Bench, image: Image) -> None:
        bench.sandbox.pull(image("copy"), token="none", timeout=60)

    def test_an_image_is_dropped_unless_a_container_has_it(self, bench: Bench, spare: str) -> None:
        layers = bench.sandbox.layers(spare)
        assert layers
        assert sum(layers.values()) > 0
        name = bench.start(spare)
        assert not bench.sandbox.drop(spare), "its container runs"
        bench.sandbox.stop(name, grace=0)
        assert not bench.sandbox.drop(spare), "its container has ended, and is there"
        assert bench.sandbox.layers(spare) == layers
        bench.sandbox.remove(name)
        for _ in range(2):
            assert bench.sandbox.drop(spare)
            assert bench.sandbox.layers(spare) is None
        with pytest.raises(ImageGone, match="pull it first"):
            bench.sandbox.start(bench.launch(spare))

    def test_an_image_that_never_was_has_no_layers(self, bench: Bench) -> None:
        assert bench.sandbox.layers("gridapps-test/never-made:1") is None
        assert bench.sandbox.drop("gridapps-test/never-made:1")

    def test_a_missing_input_is_named(self, bench: Bench, image: Image, tmp_path: Path) -> None:
        with pytest.raises(SandboxError, match=r"missing\.laz"):
            bench.sandbox.start(bench.launch(image("copy"), input=tmp_path / "missing.laz"))

    @pytest.mark.parametrize("name", ["", "../x", "A", "a/b", "-a", "a" * 101, "a\n"])
    def test_names_are_plain(self, bench: Bench, image: Image, name: str) -> None:
        launch = bench.launch(image("copy"), name=name)
        bench.names.remove(name)
        with pytest.raises(ValueError, match="valid container name"):
            bench.sandbox.start(launch)

    def test_removing_is_complete_and_repeatable(self, bench: Bench, image: Image) -> None:
        name = bench.start(image("fail"))
        bench.sandbox.wait(name, timeout=30)
        for _ in range(2):
            bench.sandbox.remove(name)
            assert bench.sandbox.log(name) is None
            with pytest.raises(KeyError):
                bench.sandbox.outputs(name)
            with pytest.raises(KeyError):
                bench.sandbox.wait(name, timeout=0)
            assert name not in [resident.name for resident in bench.sandbox.residents(labels={})]

    def test_what_runs_can_be_removed(self, bench: Bench, image: Image) -> None:
        name = bench.start(image("stubborn"))
        bench.sandbox.remove(name)
        with pytest.raises(KeyError):
            bench.sandbox.wait(name, timeout=0)

    def test_a_removed_name_can_start_again(self, bench: Bench, image: Image) -> None:
        name = bench.start(image("fail"))
        bench.sandbox.remove(name)
        assert bench.finish(bench.start(image("fail"), name=name)).ended.exit_code == 3

    def test_residents_are_found_by_their_labels(self, bench: Bench, image: Image) -> None:
        running = bench.start(image("sleep"), labels={"node": "a", "task": "1"})
        ended = bench.start(image("fail"), labels={"node": "a", "task": "2"})
        bench.start(image("fail"), labels={"node": "b", "task": "1"})
        bench.sandbox.wait(ended, timeout=30)
        for _ in range(100):  # the engine may notice an end later
            found = {
                resident.name: resident.running for resident in bench.sandbox.residents(labels={"node": "a"})
            }
            if not found[ended]:
                break
            time.sleep(0.05)
        assert found == {running: True, ended: False}
        (one,) = bench.sandbox.residents(labels={"node": "a", "task": "1"})
        assert one.labels == {"node": "a", "task": "1"}


def _ready(bench: Bench, name: str) -> bool:
    for _ in range(200):
        if b"ready\n" in bench.raw_log(name):
            return True
        time.sleep(0.05)
    return False
