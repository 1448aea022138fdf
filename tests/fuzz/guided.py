"""Fuzzing that is guided by coverage, with atheris (`pip install atheris`): what reaches a new branch of mptc is kept and mutated further.

    python -m tests.fuzz.guided CORPUS [-max_total_time=1800] [further options of libFuzzer]

CORPUS is a folder, filled with the specs of the repository where it is empty. A find does not end the run: the first text of each kind of failure is
written to `build/fuzz`; what is kept for good goes to `tests/fuzz/finds`, where every run of the tests tries it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["mptc"]):
    import mptc.backends.torch
    import mptc.build
    import mptc.compile
    import mptc.derive
    import mptc.model.resolve  # noqa: F401 -- loaded here, so that their branches are seen

from tests.fuzz.judge import judge
from tests.fuzz.texts import HERE, seeds

_KNOWN: set[str] = set()
LONGEST = 4096


def once(content: bytes) -> None:
    text = content.decode("utf-8", errors="replace")
    problem = judge(text, HERE).problem
    if problem is not None and problem not in _KNOWN:
        _KNOWN.add(problem)
        kept = Path("build/fuzz")
        kept.mkdir(parents=True, exist_ok=True)
        (kept / f"guided_{len(_KNOWN)}.mpt").write_text(text, encoding="utf-8", errors="surrogatepass")
        print(f"find: {problem}: {kept}/guided_{len(_KNOWN)}.mpt", flush=True)


def main() -> None:
    corpus = Path(sys.argv[1])
    corpus.mkdir(parents=True, exist_ok=True)
    if not any(corpus.iterdir()):
        for path, text in seeds():
            if len(text) <= LONGEST:
                (corpus / Path(path).name).write_text(text, encoding="utf-8")
    words = corpus.parent / f"{corpus.name}.dict"
    words.write_text("".join(f'"{word}"\n' for word in _words()), encoding="utf-8")
    atheris.Setup([*sys.argv[:2], f"-dict={words}", f"-max_len={LONGEST}", "-timeout=60", *sys.argv[2:]], once)
    atheris.Fuzz()


def _words() -> list[str]:
    """The words of the language: mutations put them in."""
    from mptc.model.functions import FUNCTIONS
    from mptc.syntax.brackets import DECLARES

    statements = "input output loss minimize return param stack repeat share tie freeze penalty probe each on in grad integral as per sequence"
    return sorted({*FUNCTIONS, *DECLARES, *statements.split(), "[ctx]", "[d]", "[seq]", "<-", "->", "|", "~ normal(", " bidirectional "})


if __name__ == "__main__":
    main()
