"""Exercises, checks and sizes: what every notebook runs on."""

import dataclasses
import json
import linecache
import math
import sys
import time
import warnings
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

from facerecon_lib.course import checks, compare
from facerecon_lib.course import exercises as course
from facerecon_lib.course.compare import Wrong, close, same_gradient
from facerecon_lib.course.exercises import check, exercise, judge, profile


def library_twice(x):
    return 2 * x


def examine_twice(attempt):
    x = torch.tensor([1.0, 2.0, 5.0])
    close("twice(x)", attempt(x), 2 * x, axes=("value",))
    return "three values agree"


TWICE = checks.ExerciseCheck("twice", "98", library_twice, examine_twice)


@pytest.fixture
def twice(monkeypatch):
    """An exercise `twice` that belongs to no notebook."""
    monkeypatch.setitem(checks._REGISTERED, "twice", TWICE)
    return TWICE


def named(function):
    function.__name__ = "twice"
    return function


def blank(x):
    raise NotImplementedError


def right(x):
    return x + x


def wrong(x):
    return 3 * x


def test_a_right_answer_is_right_with_the_check_s_remark(twice):
    assert judge(right, twice) == course.Verdict("right", "three values agree")


def test_a_wrong_answer_is_told_where_and_how(twice):
    verdict = judge(wrong, twice)
    assert verdict.state == "wrong"
    assert verdict.message.startswith("twice(x) differs at value 0: expected 2, got 3.")
    assert "Yours is 1.5 times the expected" in verdict.message


MISTAKES = {
    "breaks": lambda x: x.no_such_thing,
    "the library's own": library_twice,
    "the first value's for all": lambda x: 2 * x[:1].expand_as(x),
    "tripled, or cubed": (lambda x: 3 * x, lambda x: x**3),
}


@pytest.mark.parametrize("as_list", [False, True])
@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (wrong, "tripled, or cubed"),
        (lambda x: x * x * x, "tripled, or cubed"),
        (lambda x: x + x[0], "twice(x) differs"),
        (lambda x: 3.5 * x, "twice(x) differs"),
        (lambda x: 2 * x[:2], "twice(x): expected shape"),
    ],
)
def test_a_mistake_of_the_table_is_told_by_its_sentence(answer, sentence, as_list):
    def listed(function):
        return (lambda x: [function(x), {"size": len(x)}]) if as_list else function

    def examine(attempt):
        for x in (torch.ones(2), torch.tensor([1.0, 2.0, 5.0])):
            got = attempt(x)
            close("twice(x)", got[0] if as_list else got, 2 * x)

    table = {
        words: tuple(map(listed, of)) if isinstance(of, tuple) else listed(of)
        for words, of in MISTAKES.items()
    }
    definition = checks.ExerciseCheck("twice", "98", listed(library_twice), examine, table)
    assert judge(named(listed(answer)), definition).message.startswith(sentence)


def examine_gradient(attempt):
    mine, ours = (torch.ones(3, requires_grad=True) for _ in range(2))
    same_gradient("f(x)", attempt(mine).sum(), (ours * 2).sum(), {"x": (mine, ours)})


def test_a_right_answer_without_gradient_is_no_mistake_of_the_table():
    table = {"no gradient": lambda x: 2 * x.detach(), "other": lambda x: 3 * x}
    definition = checks.ExerciseCheck("f", "98", library_twice, examine_gradient, table)
    assert judge(lambda x: 2 * x.detach(), definition).message.startswith("f(x) has no gradient")


def stub_that_yields(x):
    raise NotImplementedError
    yield x


def stub_within(x):
    def inner():
        raise NotImplementedError

    return inner()


@pytest.mark.parametrize("stub", [blank, stub_that_yields, stub_within])
def test_what_still_raises_not_implemented_is_blank(twice, stub):
    assert judge(stub, twice).state == "blank"


def test_a_right_answer_that_is_slow_is_right_and_told_so(twice, monkeypatch, capsys):
    def sleepy(x):
        time.sleep(0.1)
        return 2 * x

    assert judge(sleepy, twice).slow == ""
    monkeypatch.setattr(course, "SLOW_SECONDS", 0.05)
    assert "times slower than the library's" in judge(sleepy, twice).slow
    assert judge(right, twice).slow == ""
    check(named(sleepy))
    assert "slower" in capsys.readouterr().out


class Unwritten:
    def __call__(self, x):
        raise NotImplementedError


def not_ours(x):
    return Unwritten()(x)  # whose NotImplementedError leaves no blank in this function


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (not_ours, "NotImplementedError"),
        (lambda x: None, "is the `return` missing?"),
        (lambda x: sys.exit(3), "SystemExit"),
        (named(lambda: None), "twice could not be called: TypeError"),
    ],
)
def test_an_answer_that_cannot_be_compared_is_wrong_and_said_why(twice, answer, says):
    verdict = judge(answer, twice)
    assert verdict.state == "wrong"
    assert says in verdict.message


def test_a_check_that_trips_over_an_odd_answer_says_wrong(twice):
    broken = dataclasses.replace(twice, examine=lambda attempt: attempt(1).no_such_thing)
    verdict = judge(right, broken)
    assert verdict.state == "wrong"
    assert "could not be compared: AttributeError" in verdict.message


def test_an_exception_names_the_student_s_own_line(twice):
    source = "def twice(x):\n    y = x.reshape(2, 2)\n    return y\n"
    linecache.cache["<cell 5>"] = (len(source), None, source.splitlines(True), "<cell 5>")
    space = {}
    exec(compile(source, "<cell 5>", "exec"), space)
    verdict = judge(space["twice"], twice)
    lines = verdict.message.splitlines()
    assert lines[:2] == ["Your code stopped at line 2 of its cell:", "    y = x.reshape(2, 2)"]
    assert lines[2].startswith("RuntimeError: shape '[2, 2]' is invalid")
    assert "facerecon_lib" not in verdict.message


KERNEL = """\
import torch
from facerecon_lib.course import checks
from facerecon_lib.course.compare import close
from facerecon_lib.course import check, exercise, setup

def examine(attempt):
    x = torch.ones(3)
    close("twice(x)", attempt(x), 2 * x)

checks._REGISTERED["twice"] = checks.ExerciseCheck("twice", "98", lambda x: 2 * x, examine)
setup("98")"""


def in_kernel(folder, *sources):
    """The outputs of cells in a real kernel, after one that registers an exercise `twice`."""
    notebook = new_notebook(cells=[new_code_cell(source) for source in (KERNEL, *sources)])
    place = {"metadata": {"path": str(folder)}}
    options = dict(timeout=120, extra_arguments=["--log-level=40"], resources=place)
    NotebookClient(notebook, **options).execute()
    return [cell.outputs for cell in notebook.cells]


def test_in_a_notebook_the_three_states_are_shown_and_nothing_stops(tmp_path):
    set_up, blank, uses, fails, wrong, told, passes, own = in_kernel(
        tmp_path,
        "@exercise\ndef twice(x):\n    raise NotImplementedError\n\ncheck(twice)",
        "twice(4)",
        "@exercise\ndef twice(x):\n    y = x @ torch.ones(4, 4)\n    return y\n\ncheck(twice)",
        "@exercise\ndef twice(x):\n    print('I was here')\n    return -2 * x\n\ncheck(twice)",
        "print(twice(4), twice(4), twice.student(4))",
        "@exercise\ndef twice(x):\n    return x + x\n\ncheck(twice)",
        "twice(torch.ones(1)), twice",
    )
    assert "profile" in set_up[0].text
    assert set_up[0].text.endswith("98: 0 of 1 exercise right; next: twice\n")
    assert json.loads((tmp_path / "progress.json").read_text()) == {"right": ["twice"]}
    assert blank[0].data["text/plain"].startswith("○ twice: not attempted yet")
    assert uses[0].data["text/plain"] == "8"
    assert "stopped at line 3 of its cell:\n    y = x @ torch" in fails[0].data["text/plain"]
    assert "✗ twice: not right yet" in wrong[0].data["text/plain"]
    assert "the sign is flipped everywhere" in wrong[0].data["text/plain"]
    assert "Your function printed:\nI was here" in wrong[0].data["text/plain"]
    assert told[0].text.count("the library's answers here") == 1
    assert told[0].text.endswith("8 8 -8\n")
    assert passes[0].data["text/plain"].startswith("✓ twice: right")
    assert "#1a7f37" in passes[0].data["text/html"]
    assert own[0].data["text/plain"] == "(tensor([2.]), <exercise twice: right>)"


def test_until_it_passes_the_library_answers_then_the_student_s_own(twice):
    calls = []

    def student(x):
        calls.append(x)
        return x + x

    for function, state in ((blank, "blank"), (student, "right")):
        wrapped = exercise(named(function))
        assert wrapped(21) == 42
        assert wrapped.verdict.state == state
    assert calls[-1] == 21


def test_a_wrong_function_is_answered_for_and_said_so(twice, capsys):
    wrapped = exercise(named(wrong))
    assert (wrapped(21), wrapped.student(21)) == (42, 63)
    assert "the library's answers here" in capsys.readouterr().out


def test_the_function_keeps_its_name_and_docstring(twice):
    def twice(x):
        """Twice x."""

    assert exercise(twice).__doc__ == "Twice x."
    assert repr(exercise(twice)) == "<exercise twice: unchecked>"
    assert exercise(exercise(twice)).student is twice


def test_a_function_that_calls_itself_is_judged_by_itself(twice):
    space = {"exercise": exercise, "torch": torch}
    source = "@exercise\ndef twice(x):\n    return x + x if x.ndim == 0 else "
    exec(source + "torch.stack([twice(v) for v in x])", space)
    assert space["twice"].judge().state == "right"
    exec(source + "torch.stack([twice(v) + 1 for v in x])", space)
    assert space["twice"].judge().state == "wrong"


def test_an_unknown_name_lists_those_that_there_are():
    def no_such_exercise(x):
        return x

    with pytest.raises(LookupError, match=r"keep the name.*There are: "):
        exercise(no_such_exercise)


def test_two_notebooks_may_not_share_an_exercise_s_name(twice):
    def twice(attempt):
        return None

    twice.__module__ = "facerecon_lib.course.nb97_made_up.checks"
    with pytest.raises(ValueError, match="in notebook 98 already"):
        checks.exercise_check(stand_in=library_twice)(twice)


def test_check_asks_for_the_function_itself(twice):
    with pytest.raises(TypeError, match=r"as in check\(f\)"):
        check(right(3))


def test_what_the_function_prints_and_warns_of_stays_quiet(twice, capsys, recwarn):
    def noisy(x):
        print("one")
        print("two", file=sys.stderr)
        warnings.warn("three", stacklevel=1)
        return 3 * x

    verdict = judge(noisy, twice)
    assert verdict.printed == "one\ntwo\n"
    assert capsys.readouterr() == ("", "")
    assert not recwarn.list


def test_the_notebook_s_random_numbers_go_on_as_if_nothing_was(twice):
    def draw():
        return float(torch.rand(1)), np.random.rand()  # noqa: NPY002

    def seed():
        torch.manual_seed(7)
        np.random.seed(7)  # noqa: NPY002

    seed()
    expected = draw()
    seed()
    assert judge(lambda x: 2 * x + 0 * sum(draw()), twice).state == "right"
    assert draw() == expected


def test_the_function_s_random_numbers_start_alike_each_time(twice):
    drawn = []
    for _ in range(2):
        judge(lambda x: drawn.append((float(torch.rand(1)), np.random.rand())), twice)  # noqa: NPY002
        torch.rand(3)
    assert drawn[0] == drawn[1]


def test_figures_that_the_function_draws_are_closed_others_stay(twice):
    import matplotlib.pyplot as plt

    def draws(x):
        plt.figure()
        return 2 * x

    mine = plt.figure()
    judge(draws, twice)
    assert plt.get_fignums() == [mine.number]
    plt.close(mine)


@dataclasses.dataclass(frozen=True)
class Scene:
    points: torch.Tensor
    lamps: dict


def spoils(x, array, more, scene, network):
    for part in (x, array, more["w"], more["list"][0], scene.points, scene.lamps["red"]):
        part += 1
    more.pop("w")
    more["list"].append(1)
    return network


def test_a_call_leaves_its_arguments_as_they_were_and_passes_networks_on(monkeypatch):
    definition = checks.ExerciseCheck("spoils", "98", spoils, lambda attempt: None)
    monkeypatch.setitem(checks._REGISTERED, "spoils", definition)
    ones = partial(torch.ones, 2)
    network = torch.nn.Linear(1, 1)
    scene = Scene(ones(), {"red": ones()})
    more, array = {"w": ones(), "list": [ones()]}, np.ones(2)
    x = ones().requires_grad_()
    assert exercise(spoils)(x, array, more, scene=scene, network=network) is network
    assert len(more["list"]) == 1
    for part in (x, torch.from_numpy(array), more["w"], *more["list"], *scene.lamps.values()):
        assert torch.equal(part, ones())
    assert torch.equal(scene.points, ones())


@pytest.mark.parametrize("leaf", [True, False])
def test_gradients_pass_the_copies_of_a_call(twice, leaf):
    def doubles(x):
        x *= 2
        return x

    x = torch.nn.Parameter(torch.ones(3))
    y = x if leaf else 3 * x
    exercise(named(doubles))(y).sum().backward()
    assert torch.equal(x.grad, torch.full((3,), 2.0 if leaf else 6.0))
    with torch.no_grad():
        assert not exercise(named(doubles))(x).requires_grad


def test_an_exception_names_its_trial():
    x = torch.ones(3)

    def examine(attempt):
        attempt.case("twice(three ones)", (x,))
        attempt(x.double(), 2.0)

    definition = dataclasses.replace(TWICE, examine=examine, stand_in=lambda x, by=2: by * x)
    for answer, says in (
        (lambda x, by=2: x @ x[:2], "\nThe trial: twice(three ones)"),
        (lambda x, by=2: torch.zeros(3).index_add(0, torch.arange(3), by * x), "the dtype of the"),
        (
            lambda x, by=2: 1 / (by - 2.0) if by == 2.0 and x.dtype == torch.float64 else by * x,
            "2.0",
        ),
    ):
        assert says in judge(answer, definition).message


def test_a_cause_is_named_when_it_holds_on_a_second_input():
    table = {"squared": torch.square, "tripled": lambda x: 3 * x}

    def examine(attempt):
        attempt.case("twice(x)", (torch.tensor([3.0]),))

    definition = dataclasses.replace(TWICE, examine=examine, mistakes=table)
    assert judge(lambda x: x * x, definition).message == "squared"
    assert judge(lambda x: x + 2 * x, definition).message == "tripled"
    assert (
        judge(lambda x: x + 6, definition).message == "twice(x) differs at [0]: expected 6, got 9."
    )
    assert judge(lambda x: 4 * x, definition).message.endswith("it is twice what it should be.")


@pytest.mark.parametrize(
    "setting", [lambda: torch.set_grad_enabled(False), lambda: torch.set_default_dtype(torch.half)]
)
def test_an_answer_that_leaves_torch_changed_is_wrong_and_torch_is_as_it_was(twice, setting):
    def changes(x):
        setting()
        return 2 * x

    assert judge(changes, twice).message.startswith("It leaves torch changed")
    assert torch.is_grad_enabled()
    assert torch.get_default_dtype() == torch.float32


CACHE = {}


def same_buffer(x):
    return CACHE.setdefault(("buffer", len(x)), torch.zeros(len(x))).copy_(2 * x)


def counts_calls(x, calls=[]):  # noqa: B006
    calls.append(x)
    return 2 * x + (len(calls) > 2)


@pytest.mark.parametrize(
    ("answer", "says"),
    [(same_buffer, "twice(one): the answer was right, and changed"), (counts_calls, "asked again")],
)
def test_an_answer_stays_and_comes_again(answer, says):
    def examine(attempt):
        for what, x in (("one", torch.ones(3)), ("another", torch.zeros(3))):
            attempt.case(f"twice({what})", (x,))

    assert says in judge(answer, dataclasses.replace(TWICE, examine=examine)).message


def test_a_second_input_is_of_the_same_kind():
    unit = torch.nn.functional.normalize(E, dim=-1)
    mask, index, share = BOOLS, torch.arange(3), torch.tensor([0.0, 1.0])
    inputs = [unit, mask, index, share], {"sizes": (3, 4), "gamma": 0.5, "array": np.ones(2)}
    (rows, same_mask, same_index, shares), named = checks.second_input(inputs)
    assert torch.allclose(rows.norm(dim=1), torch.ones(3))
    assert not torch.allclose(rows, unit, atol=0.01)
    assert torch.equal(same_mask, mask)
    assert torch.equal(same_index, index)
    assert (shares[0], 0.8 <= shares[1] < 1) == (0, True)
    assert (named["sizes"], named["gamma"]) == ((3, 4), 0.45)
    assert (named["array"] < 1).all()


def test_a_gradient_that_cannot_be_taken_is_said_why():
    def changed_in_place(x):
        y = x.exp()
        y += y.sum()
        return 0 * y + 2 * x

    definition = checks.ExerciseCheck("f", "98", library_twice, examine_gradient)
    says = judge(lambda x: changed_in_place(x).sum(), definition).message
    assert says.startswith("The gradient of f(x) could not be taken: ")


def test_strided_tensors_stay_so_in_copies():
    [x] = compare.strided(E)
    assert torch.equal(x, E)
    assert not checks.copied(x).is_contiguous()


def test_changing_arguments_in_place_is_allowed():
    def examine(attempt):
        x, more = torch.ones(3), {"w": torch.ones(3), "list": [torch.ones(1)]}
        attempt(x, more)
        assert torch.equal(x, torch.ones(3))
        close("what was passed", more["w"], torch.ones(3))
        close("the sum", attempt(np.ones(2), more), 1.0)

    def in_place(x, more):
        x += 1
        more["w"].zero_()
        more["list"][0] += 1
        return torch.tensor(1.0)

    assert judge(in_place, checks.ExerciseCheck("f", "98", in_place, examine)).state == "right"


def test_gradients_flow_through_the_copies():
    definition = checks.ExerciseCheck("f", "98", blank, examine_gradient)
    assert judge(lambda x: (2 * x).sum(), definition).state == "right"
    assert "no gradient" in judge(lambda x: torch.tensor(float(2 * x.sum())), definition).message
    assert judge(lambda x: (x.detach() + x).sum(), definition).state == "wrong"


def noisy(x):
    print("hello", file=sys.stderr)
    return x + x


def test_when_nbgrader_validates_wrong_and_blank_raise_and_right_is_silent(
    twice, monkeypatch, capfd
):
    monkeypatch.setenv("NBGRADER_EXECUTION", "validate")
    assert check(named(noisy)) is None
    with pytest.raises(AssertionError, match=r"twice: twice\(x\) differs"):
        check(named(wrong))
    with pytest.raises(AssertionError, match="twice: not attempted"):
        check(named(blank))
    assert capfd.readouterr() == ("", "")


def test_when_nbgrader_grades_check_returns_the_points_and_says_what_is_wrong(
    in_parts, monkeypatch, capfd
):
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    answers = {
        noisy: (3, "twice: right, 3 of 3 points. "),
        blank: (0, "twice: blank, 0 of 3 points. not attempted yet"),
        wrong: (0, r"twice: wrong, 0 of 3 points. one differs"),
        lambda x: 2 * x.clamp(min=0): (2, "twice: wrong, 2 of 3 points. a negative number differs"),
        lambda x: 2 * x[:1]: (2, "twice: wrong, 2 of 3 points. "),
        raises_from_two_on: (1, "twice: wrong, 1 of 3 points. Your code stopped"),
    }
    for function, (points, says) in answers.items():
        assert check(named(function)) == points
        out, err = capfd.readouterr()
        assert says in out
        assert err == ""


def raises_from_two_on(x):
    if len(x) > 1 or x < 0:
        raise ValueError
    return 2 * x


@pytest.fixture
def in_parts(monkeypatch):
    """An exercise `twice` of 3 points whose check has three parts."""

    def examine(attempt):
        for words, value in (("one", [1.0]), ("a negative number", [-1.0]), ("two", [1.0, 2.0])):
            with attempt.part(words):
                attempt.case(words, (torch.tensor(value),))

    definition = checks.ExerciseCheck("twice", "98", lambda x: 2 * x, examine, points=3)
    monkeypatch.setitem(checks._REGISTERED, "twice", definition)


def test_an_answer_that_only_fails_when_asked_again_misses_one_part(in_parts):
    calls = []

    def stale(x):
        calls.append(x)
        return 2 * x + (len(calls) > 3)

    definition = checks.find("twice")
    verdict = judge(stale, definition)
    assert "asked again" in verdict.message
    calls.clear()
    assert course.earned(stale, definition, verdict) == 2


def test_elsewhere_check_never_raises(twice, monkeypatch, capsys):
    monkeypatch.delenv("NBGRADER_EXECUTION", raising=False)
    for function in (right, wrong, blank):
        assert check(named(function)) is None
    lines = capsys.readouterr().out.splitlines()
    assert "".join(line[0] for line in lines if "twice:" in line) == "✓✗○"


E = torch.tensor([[1.0, 2.0, 4.0], [3.0, -5.0, 7.0], [0.5, 6.0, -2.0]])
BOOLS = torch.tensor([False, True])


@pytest.mark.parametrize(
    ("got", "expected", "says"),
    [
        # simple mistakes
        (-E, E, "the sign is flipped everywhere"),
        (2 * E, E, "twice what it should be"),
        (E / 2, E, "half of what it should be"),
        (E * math.pi / 180, E, "degrees and radians mixed up"),
        (E * 180 / math.pi, E, "degrees and radians mixed up"),
        (1.7 * E, E, "Yours is 1.7 times the expected"),
        (E + 3, E, "Yours is the expected plus 3"),
        (E.T.contiguous(), E, "Transposing axes 0 and 1"),
        (E * 1.0004, E, "Only the last digits differ."),
        (E.flip(1), E, "reverse order along axis 1"),
        (E.roll(1, 0), E, "shifted by one along axis 0"),
        (E * torch.tensor([1.0, -1, 1]), E, "The sign is flipped in column 1"),
        (E[:, [1, 0, 2]], E, "Taking the columns of yours in the order [1, 0, 2]"),
        (0 * E, E, "Yours is zero everywhere"),
        # the first difference in kind
        (None, E, "returned nothing (None)"),
        (E.numpy(), E, "expected a torch.Tensor, got numpy.ndarray of shape (3, 3)"),
        (E[0], E, "expected shape (3, 3), got (3,). An axis is missing"),
        (E.repeat(2, 1, 1), E, "An axis too many"),
        (E.reshape(1, 9), E, "As many values, otherwise arranged"),
        (torch.zeros(4, 3), torch.ones(3, 4), "are two axes swapped"),
        (E.double(), E, "expected dtype torch.float32, got torch.float64"),
        (E * torch.tensor([1, math.nan, 1]), E, "holds nan at row 0, column 1 (3 of 9 values"),
        (E + torch.eye(3), E, "differs at row 0, column 0: expected 1, got 2. 3 of 9 values diff"),
        # numbers, bools and tuples
        ("text", 1.0, "expected a number, got str"),
        (torch.ones(2), 1.0, "expected one number"),
        (~BOOLS, BOOLS, "expected False, got True"),
        ((E,), (E, 1.0), "expected 2 values, got 1"),
        (E, (E, 1.0), "expected 2 values, got one torch.Tensor"),
        (torch.tensor(6.0), torch.tensor(3.0), "expected 3, got 6."),
        (None, (E, 1.0), "returned nothing"),
        ((E, 4), (E, 3.0), "value 2 of f"),
        (E * (1 + 1e-3), E, "differs at"),
    ],
)
def test_how_an_answer_differs_is_said(got, expected, says):
    with pytest.raises(Wrong) as caught:
        close("f(x)", got, expected, axes=("row", "column"))
    assert says in str(caught.value)


def test_a_place_of_a_short_axis_is_named():
    with pytest.raises(Wrong, match="at vertex 1, y: expected 0, got 2"):
        close("f", torch.tensor([[0.0, 0], [0, 2]]), torch.zeros(2, 2), axes=("vertex", "x or y"))


@pytest.mark.parametrize(
    ("second", "words"),
    [
        ((6.0, 3.0), "It looks as if it is twice what it should be."),
        ((torch.tensor(5.0), torch.tensor(3.0)), None),
        ((None, 3.0), None),
    ],
)
def test_of_a_single_number_a_cause_is_named_when_a_second_input_agrees(second, words):
    with pytest.raises(Wrong) as caught:
        close("f(x)", 2.0, 1.0, again=lambda: second)
    assert str(caught.value) == " ".join(filter(None, ["f(x) differs: expected 1, got 2.", words]))


@pytest.mark.parametrize(
    ("got", "expected"),
    [
        *((1.0, 1), (np.float64(2.0), 2.0), (BOOLS, BOOLS), ((E, 3), (E, 3.0))),
        (E * (1 + 5e-5), E),
        (torch.tensor([math.nan, 1]), torch.tensor([math.nan, 1])),
    ],
)
def test_what_agrees_within_the_tolerance_passes(got, expected):
    close("f(x)", got, expected)


def test_parts_of_a_tuple_have_names_and_tolerances_of_their_own():
    parts = {"the mean": dict(hint="Of all."), "the rest": dict(atol=1.5)}
    close("f(x)", (E, 4), (E, 3.0), parts=parts)
    with pytest.raises(Wrong, match=r"the mean of f\(x\) differs .* Of all\."):
        close("f(x)", (E + torch.eye(3), 4), (E, 3.0), parts=parts)


def test_a_hint_follows_and_a_picture_is_drawn_only_when_seen():
    drawn = []
    with pytest.raises(Wrong, match="Think of the centre") as caught:
        close("f", -E, E, hint="Think of the centre.", picture=lambda *a: drawn.append(a))
    assert not drawn
    caught.value.picture()
    assert torch.equal(drawn[0][0], -E)


def test_a_wrong_answer_s_picture_is_shown(twice, monkeypatch):
    import IPython.display

    shown = []
    picture = Figure()
    monkeypatch.setattr(course, "_shell", lambda: SimpleNamespace(execution_count=1))
    monkeypatch.setattr(IPython.display, "display", lambda value, **_: shown.append(value))
    course.show_verdict("twice", course.Verdict("wrong", "no", "", lambda: picture))
    assert shown[1] is picture
    assert "&lt;b&gt;" in course._boxed("<b>", "red")


def test_the_profile_is_the_environment_s_or_the_machine_s(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("FACERECON_PROFILE", raising=False)
    assert profile().name == "smoke"
    monkeypatch.setenv("FACERECON_PROFILE", "full")
    assert profile().name == "full"
    assert profile("colab").name == "colab"
    assert str(profile("smoke")) == "smoke (seconds on a CPU), on cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert profile().device == "cuda"
    monkeypatch.delenv("FACERECON_PROFILE")
    assert profile().name == "colab"
    assert profile("smoke").device == "cpu"


def test_profiles_grow(monkeypatch):
    sizes = [profile(name).faces for name in ("smoke", "colab", "full")]
    assert sizes == sorted(sizes)


def test_an_unknown_profile_names_those_that_there_are(monkeypatch):
    says = "FACERECON_PROFILE: expected one of smoke, colab, full, got 'huge'"
    with pytest.raises(ValueError, match=says):
        profile("huge")
    monkeypatch.setenv("FACERECON_PROFILE", "huge")
    for call in (profile, course.setup):
        with pytest.raises(ValueError, match=says):
            call()


def test_set_up_makes_random_numbers_start_alike_and_says_what_is_used(capsys, monkeypatch):
    for name in course.OWN_FILES:
        monkeypatch.delenv(name, raising=False)
    course.setup()
    first = torch.rand(2)
    [line] = capsys.readouterr().out.splitlines()
    assert "facerecon_lib" in line
    monkeypatch.setenv("FACERECON_MODEL", "/somewhere/ict.safetensors")
    monkeypatch.setenv("FACERECON_UNET", "runs/unet.safetensors")
    course.setup()
    assert torch.equal(torch.rand(2), first)
    _, own = capsys.readouterr().out.splitlines()
    assert own.startswith("$FACERECON_MODEL: ict.safetensors, $FACERECON_UNET: unet.safetensors; ")


def test_a_first_call_under_no_grad_is_judged_with_gradients():
    from facerecon_lib.fitting import losses

    @course.exercise
    def recognition_loss(rendered_features, photo_features):
        return (rendered_features - photo_features).abs().sum(-1).mean()

    with torch.no_grad():
        recognition_loss(torch.ones(2, 3), torch.zeros(2, 3))
    assert recognition_loss.verdict.state == "right"
    assert recognition_loss.definition.stand_in is losses.recognition_loss
