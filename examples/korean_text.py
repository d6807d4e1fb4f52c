"""Korean text everywhere: in parameters, files, metrics, names and results. 한국어는 어디에나 쓸 수 있다.

`korean_text.yaml` is compiled from it: kfp dsl compile --py examples/korean_text.py --output examples/korean_text.yaml
"""
# The source of each component travels alone, so its imports stand inside; a pipeline's defaults are never changed.
# ruff: noqa: B006, PLC0415, PTH123

from kfp import dsl


@dsl.component(base_image="python:3.11-slim")
def write_text(lines: list, text: dsl.Output[dsl.Dataset]) -> None:
    """Writes lines. 인코딩을 꼭 밝힌다: which encoding is usual differs from machine to machine."""
    with open(text.path, "w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)


@dsl.component(base_image="python:3.11-slim")
def count_words(text: dsl.Input[dsl.Dataset], metrics: dsl.Output[dsl.Metrics]) -> dict:
    """Counts words. 낱말을 센다."""
    from collections import Counter

    with open(text.path, encoding="utf-8") as file:
        words = Counter(file.read().split())
    metrics.log_metric("낱말 수", words.total())
    return dict(words)


@dsl.component(base_image="python:3.11-slim")
def greet(title: str, words: dict) -> str:
    """Says what came of it. The order of what is handed on as a dict is lost on the way."""
    return f"{title}: '{max(words, key=words.get)}' 이(가) 가장 많다"


@dsl.pipeline(name="korean-text", description="Counts the words of a Korean text. 한국어 글의 낱말을 센다.")
def korean_text(lines: list = ["산 너머 산", "강 건너 산"], title: str = "낱말 세기") -> str:
    """Writes a text, counts its words, says which comes most. 글을 쓰고, 세고, 알린다.

    Args:
        lines: The lines of the text. 글의 줄.
        title: What the result begins with. 결과의 제목.
    """
    text = write_text(lines=lines).set_display_name("글 쓰기")
    counted = count_words(text=text.outputs["text"]).set_display_name("낱말 세기")
    return greet(title=title, words=counted.outputs["Output"]).set_display_name("알리기").output
