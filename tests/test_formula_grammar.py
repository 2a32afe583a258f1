"""The grammar of formulas: valid formulas, and errors with their position."""

import sys
from datetime import timedelta

import pytest
import sympy
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import actlab
from actlab.derivation.syntax.builtin_functions import FUNCTIONS, is_number, list_argument_names
from actlab.derivation.syntax.domain_check import check_defined
from actlab.derivation.syntax.parser import parse_formula
from actlab.derivation.syntax.sympy_budget import BudgetExceeded, limit_calls
from actlab.derivation.syntax.to_sympy import read_formula
from actlab.derivation.syntax.tokenizer import LONGEST
from tests.processes import run_process

x, a = sympy.symbols("x a", real=True)
UNDERSCORES = "is not a valid name: underscores may only separate words"
CELU = actlab.catalogue["celu"].formula()
POINT = "write <, <=, > or >="
TEND, PUT_IN = "both sides tend to", "there; set this value with where()"
NOT_REAL = "is not a real number for x"
TENTH = sympy.Rational(1, 10)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x", x),
        ("  x\n + 1\t", x + 1),
        ("+x - -1", x + 1),
        ("0.1*x", x * TENTH),
        ("1e-1 * x", x * TENTH),
        (".5 * x + 1.", x / 2 + 1),
        (
            "0.1000000000000000055511151231257827 * x",
            x * sympy.Rational("0.1000000000000000055511151231257827"),
        ),
        ("x**-2", x**-2),
        ("clip(x, -1, 1)", sympy.Min(sympy.Max(x, -1), 1)),
        ("max(0, x)", sympy.Max(0, x)),
        ("abs(x)", sympy.Abs(x)),
        ("log1p(x)", sympy.log(1 + x)),
        ("expm1(x)", sympy.exp(x) - 1),
        ("where(not x > 0, x, 1)", sympy.Piecewise((x, x <= 0), (1, True))),
        ("where(0 < x <= a, x, 1)", sympy.Piecewise((x, (x > 0) & (x <= a)), (1, True))),
        ("relu(x)", sympy.Max(x, 0)),
        ("mish(x) / 2", x * sympy.tanh(sympy.log(1 + sympy.exp(x))) / 2),
        ("softplus(x, 2)", sympy.log(1 + sympy.exp(2 * x)) / 2),
        ("elu(2 * x, a)", sympy.Piecewise((2 * x, 2 * x > 0), (a * (sympy.exp(2 * x) - 1), True))),
        ("leaky_relu(x)", sympy.Piecewise((x, x > 0), (x / 100, True))),
        ("threshold(x, 1, 2)", sympy.Piecewise((x, x > 1), (2, True))),
    ],
)
def test_read_converts_a_formula_exactly(text, expected):
    assert read_formula(text) == expected


ELEMENTWISE = [name for name, entry in actlab.catalogue.items() if not entry.facts.gated]


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_check_defined_accepts_every_formula_of_the_catalogue(name):
    entry = actlab.catalogue[name]
    numbers = {key: value for key, value in entry.example.items() if is_number(value)}
    check_defined(parse_formula(entry.formula(), ("x", *numbers)), numbers)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_read_accepts_every_function_of_the_catalogue(name):
    """Functions in formulas compute the same values as the catalogue."""
    entry = actlab.catalogue[name]
    extra = ", ".join(str(v) for v in entry.example.values() if type(v) is float)
    text = f"{name}(x, {extra})" if name in ("threshold", "prelu") else f"{name}(x)"
    points = torch.tensor([-2.5, -0.3, 0.4, 3.7], dtype=torch.float64)
    result = [float(read_formula(text).subs(x, point)) for point in points.tolist()]
    assert result == pytest.approx(entry(points, **entry.example).tolist(), rel=1e-12)


def read_and_check(text):
    """Read a formula in x and beta, and check that it is defined everywhere."""
    result = read_formula(text, ("x", "beta"))
    check_defined(parse_formula(text, ("x", "beta")), {"beta": 1.5})
    return result


def refusal(text):
    """Return the first line of an error, and the text above its carets."""
    with pytest.raises(actlab.UsageError) as caught:
        read_and_check(text)
    problem, shown, carets = str(caught.value).split("\n")
    assert set(carets) == {" ", "^"}
    return problem, shown[carets.index("^") : carets.rindex("^") + 1]


@pytest.mark.parametrize(
    ("text", "problem", "marked"),
    [
        # Names and functions.
        ("x * tanhh(x)", "unknown function 'tanhh' (did you mean 'tanh'?)", "tanhh"),
        ("ln(x)", "unknown function 'ln' (did you mean 'log'?)", "ln"),
        ("zzzzz(x)", "unknown function 'zzzzz'", "zzzzz"),
        ("x * betta", "unknown name 'betta' (did you mean 'beta'?)", "betta"),
        ("x * gamma", "unknown name 'gamma'; a parameter needs a value: gamma=1.0", "gamma"),
        ("e**x", "unknown name 'e'; e to the power of x is exp(x)", "e"),
        ("x + tanh", "'tanh' is a function; write tanh(x)", "tanh"),
        ("x(2)", "'x' is not a function (did you mean 'x*(...)'?)", "x"),
        ("glu(x)", "'glu' gates one half of a tensor by the other and has no formula in x", "glu"),
        ("exp(x, 1)", "exp got 2 arguments; write exp(x)", "exp(x, 1)"),
        ("1 + max(x)", "max got 1 argument; write max(a, b)", "max(x)"),
        ("exp()", "exp got 0 arguments; write exp(x)", "exp()"),
        ("where(x > 0, x)", "where got 2 arguments; write where(condition, a, b)", "where(x > 0, x)"),
        ("prelu(x)", "prelu got 1 argument; write prelu(x, weight)", "prelu(x)"),
        ("gelu(x, 1)", "gelu got 2 arguments; write gelu(x)", "gelu(x, 1)"),
        # Python syntax that formulas do not have.
        ("x.real", "'.' is not allowed; a formula has no attributes", "."),
        ("exp(x=1)", "'=' is not allowed; a function's arguments are given in order, without names", "="),
        ("exp(*x)", "a value is missing before '*'", "*"),
        ("__import__('os')", f"'__import__' {UNDERSCORES}", "__import__"),
        ("x[0]", "'[' is not allowed; a formula uses round brackets only", "["),
        ("lambda: x", "'lambda' is a Python keyword and has no meaning in a formula", "lambda"),
        ("x if x > 0 else 1", "'if' has no meaning in a formula; write where(x > 0, a, b)", "if"),
        ("x + 'a'", "\"'\" is not allowed; a formula has no strings", "'"),
        ("x * True", "'True' is not a number", "True"),
        ("2j * x", "'2j' is a complex number; a formula is real", "2j"),
        ("x; import os", "';' is not allowed", ";"),
        ("x, 1", "'x, 1' is more than one formula", "x, 1"),
        ("x\0", r"'\x00' is not allowed", "?"),
        ("x % 2", "'%' is not allowed", "%"),
        ("x // 2", "'//' is not allowed (did you mean '/'?)", "//"),
        # Common mistakes.
        ("x^2", "'^' is not allowed (did you mean '**'?)", "^"),
        ("x²", "'²' is not allowed (did you mean '**2'?)", "²"),
        ("α * x", "'α' is not allowed; spell it out: alpha", "α"),
        ("2x", "an operator is missing between '2' and 'x' (did you mean '2*x'?)", "x"),
        ("(x)(x)", "an operator is missing between ')' and '(' (did you mean ')*('?)", "("),
        ("x x", "an operator is missing between 'x' and 'x' (did you mean 'x*x'?)", "x"),
        ("x +", "a value is missing after '+'", ""),
        ("x ** * 2", "a value is missing before '*'", "*"),
        ("(x", "this bracket is never closed", "("),
        ("x)", "this bracket was never opened", ")"),
        ("007 * x", "'007' starts with a 0; remove it", "007"),
        # Conditions.
        ("1 + (x > 0)", "'x > 0' is a condition; write where(x > 0, a, b)", "x > 0"),
        ("where(x, 1, 2)", "'x' is not a condition; write where(x > 0, a, b)", "x"),
        ("where(x == 0, 1, x)", f"'==' is not allowed; {POINT}", "=="),
        ("where(1or x, 1, 2)", "put a space before 'or'", "or"),
        # Numbers.
        ("1e999999 * x", "'1e999999' is out of range for float64", "1e999999"),
        ("1e-999 * x", "'1e-999' is out of range for float64", "1e-999"),
        (f"x * {'9' * 61}", f"'{'9' * 37}...' has 61 digits; the maximum is 60", "9" * 61),
        ("x + 9**9**9**9", "'9**9**9' is out of range for float64", "9**9**9"),
        ("x**101", "'x**101' has too large an exponent; the maximum is 100", "x**101"),
        ("(x**20)**20", "'(x**20)**20' has too large an exponent; the maximum is 100", "(x**20)**20"),
        ("x + exp(1000)", "'exp(1000)' is out of range for float64", "exp(1000)"),
        ("x / 0", "'x / 0' divides by 0", "x / 0"),
        ("x / (1 - 1)", "'x / (1 - 1)' divides by 0", "x / (1 - 1)"),
        ("x + log(0)", "'log(0)' is not a finite real number", "log(0)"),
        ("x * sqrt(-1)", "'sqrt(-1)' is not a finite real number", "sqrt(-1)"),
        ("celu(x, 0)", f"'celu(x, 0)': in {CELU}, 'x / alpha' divides by 0", "celu(x, 0)"),
        # Points without a real value.
        ("x * log(x)", "log(x) is not a real number for x = -1", "log(x)"),
        ("sqrt(x - 2)", "sqrt(x - 2) is not a real number for x = -1", "sqrt(x - 2)"),
        ("1 + x**0.5", "x**0.5 is not a real number for x = -1", "x**0.5"),
        ("1 / x", "1 / x is not a real number for x = 0", "1 / x"),
        ("1 / (x - 0.37)", "1 / (x - 0.37) is not a real number for x about 0.37", "1 / (x - 0.37)"),
        ("tan(x)", "tan(x) is not a real number for x about -1.5708", "tan(x)"),
        ("atanh(beta * x)", "atanh(beta * x) is not a real number for x = -1", "atanh(beta * x)"),
        ("where(x > 5, log(x - 6), x)", "log(x - 6) is not a real number for x = 5.5", "log(x - 6)"),
        ("sin(x)/x", f"sin(x)/x {NOT_REAL} = 0; {TEND} 1.0 {PUT_IN}", "sin(x)/x"),
    ],
)  # fmt: skip
def test_read_rejects_invalid_formulas_with_their_position(text, problem, marked):
    assert refusal(text) == (f"formula: {problem}", marked)


@pytest.mark.parametrize(
    "text",
    [
        "where(x > 0, log(x), x)",
        "where(x >= 0 and x < 9, sqrt(x), 0)",
        "1 / exp(-x**2)",
        "exp(exp(exp(x)))",
        "x / (1 + abs(x))",
        "1 / where(x > 0, 1, -1)",
        "where(x > 0, 1, 1 / (x - 1))",
        "(x**2 + 1)**-0.5",
        "atanh(tanh(x))",
        "where(x < 0, sin(x) / x, where(x > 0, sin(x) / x, 1))",
        "x / log(1 + exp(-x**2))",
    ],
)
def test_check_defined_accepts_formulas_that_are_real_everywhere(text):
    check_defined(parse_formula(text), {})


@pytest.mark.parametrize("text", ["", "   ", "\n"])
def test_read_rejects_empty_text_in_one_line(text):
    with pytest.raises(
        actlab.UsageError, match=r"^formula: the text is empty; write 'x \* tanh\(x\)', for example$"
    ):
        read_formula(text)


def test_read_shows_a_long_formula_around_the_error():
    text = " + ".join(["x"] * 40) + " + tahn(x) + " + " + ".join(["x"] * 40)
    with pytest.raises(actlab.UsageError) as caught:
        read_formula(text)
    problem, shown, carets = str(caught.value).split("\n")
    assert problem == "formula: unknown function 'tahn' (did you mean 'tan'?)"
    assert shown[carets.index("^") : carets.rindex("^") + 1] == "tahn"
    assert shown.strip()[0] == shown.strip()[-1] == "…"
    assert len(shown) <= 80


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("x" * (LONGEST + 1), f"formula: the text has {LONGEST + 1} characters; the maximum is {LONGEST}"),
        ("(" * 10_000 + "x" + ")" * 10_000, "formula: the text has 20001 characters; the maximum is 2000"),
        ("(" * 50 + "x" + ")" * 50, "formula: brackets are nested more than 40 deep"),
        ("-" * 1900 + "x", "formula: operations are nested too deeply"),
        ("x**" * 400 + "x", "formula: operations are nested too deeply"),
        ("mish(" * 12 + "x" + ")" * 12, "is too long: it has more than 600 operations and values"),
        ("max(x, x*x) + " * 60 + "x", "formula: is too long: it has more than 300 operations and values"),
    ],
)
def test_read_limits_the_size_of_formulas(text, problem):
    with pytest.raises(actlab.UsageError) as caught:
        read_formula(text)
    assert problem in str(caught.value).split("\n")[0]


def test_read_accepts_a_long_sum():
    assert read_formula("+".join(["x"] * 100)) == 100 * x


def test_read_rejects_formulas_too_complicated_for_sympy():
    text = "log(atan(tanhexp(selu(abs(1 - x)) + acosh(0.005**a))))"
    with pytest.raises(actlab.UsageError, match="is too complicated for SymPy"):
        read_formula(text)


def test_read_restores_the_users_profiler():
    """The profiler that counts calls restores the user's profiler."""

    def user_profiler(frame, event, argument):
        pass

    sys.setprofile(user_profiler)
    try:
        read_formula("x * tanh(x)")
        assert sys.getprofile() is user_profiler
    finally:
        sys.setprofile(None)


@pytest.mark.parametrize("calls", [997, 998, 999, 1000])
def test_limit_calls_holds_if_its_exception_is_lost(calls):
    """Python ignores exceptions in finalizers and in generators that are being closed."""

    class Finalized:
        def __del__(self):
            len("several calls"), len("are counted here")

    def generate():
        try:
            yield
        finally:
            len("calls"), len("here too")

    def work():
        for number in range(100_000):
            next(generate())
            Finalized()
            len(str(number))

    hook = sys.unraisablehook
    with pytest.raises(BudgetExceeded), limit_calls(calls) as count_left:
        work()
    assert -20 < count_left() < 0  # soon after the limit
    assert sys.unraisablehook is hook


WORDS = ["x", "beta", "pi", "1", "0.5", "1e300", "2", "0", "where", "and", "or", "not", "lambda", "x.y"]
SIGNS = ["+", "-", "*", "/", "**", "(", ")", ",", "<", ">", "<=", "==", " ", "^", "'", "[", "\0", "²"]
SOUP = st.lists(st.sampled_from([*WORDS, *SIGNS, *FUNCTIONS]), max_size=40).map("".join)
LEAVES = st.sampled_from(["x", "beta", "1", "0.5", "100", "0", "pi", "1e300"])


def _calls(inside):
    both = st.tuples(inside, inside)
    operation = st.builds(lambda p, op: f"({p[0]} {op} {p[1]})", both, st.sampled_from("+ - * / **".split()))
    call = st.sampled_from(list(FUNCTIONS)).flatmap(
        lambda name: st.lists(
            inside, min_size=len(list_argument_names(name)), max_size=len(list_argument_names(name))
        ).map(lambda arguments: f"{name}({', '.join(arguments)})")
    )
    choice = st.builds(lambda p, q: f"where({p[0]} > {p[1]}, {q[0]}, {q[1]})", both, both)
    return operation | call | choice


FORMULAS = st.recursive(LEAVES, _calls, max_leaves=15)


@settings(max_examples=150, deadline=timedelta(seconds=5), suppress_health_check=[HealthCheck.too_slow])
@given(st.text(max_size=60) | SOUP | FORMULAS)
def test_read_of_any_text_returns_or_raises_usage_error(text):
    """Any text is read within the deadline, which allows for a slow machine."""
    try:
        result = read_and_check(text)
    except actlab.UsageError as error:
        lines = str(error).split("\n")
        assert lines[0].startswith("formula: ")
        assert len(lines) in (1, 3)
        if len(lines) == 3:
            assert lines[2].strip(" ").strip("^") == ""
            assert len(lines[1]) <= 80
        return
    assert result.free_symbols <= {x, sympy.Symbol("beta", real=True)}


def test_read_imports_and_executes_nothing(tmp_path):
    """Run in a new process that records all imports, file accesses and compilations."""
    code = """
import sys
from actlab.errors import UsageError
from actlab.derivation.syntax.to_sympy import read_formula
read_formula("x * tanh(softplus(x)) + mish(x)")
seen = []
sys.addaudithook(lambda event, args: seen.append((event, args)))
for text in sys.argv[1:]:
    try:
        read_formula(text)
    except UsageError:
        pass
bad = [(e, a) for e, a in seen if e in ("import", "open", "exec", "os.system", "subprocess.Popen")]
bad += [(e, a) for e, a in seen if e == "compile" and a[1] != "<unknown>"]
print(bad)
"""
    texts = ["__import__('os').system('echo')", "open('f')", "exec('x')", "x.__class__", "os.system(x)", "x"]
    done = run_process([sys.executable, "-c", code, *texts], cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("[]\n", "")
