from services.gateway.rag.ingest.parsers import html
from services.gateway.rag.ingest.parsers.extract import Extract


def blocks(extract: Extract) -> list[tuple[str, str]]:
    return [(one.section, extract.text[one.start : one.end]) for one in extract.blocks]


def test_the_text_is_what_a_browser_shows() -> None:
    page = """<!DOCTYPE html><html><head><title> A
      page </title><style>p {}</style></head><body><nav>Home</nav><h1>Doors</h1>
      <p>They <b>open</b>
      and&nbsp;close.<br>Always.<script>alert(1)</script></p><ul><li>one<li>two</ul>
      <h2>Code</h2><pre>a
  b</pre><table><tr><td>1<td>2</tr></table><p hidden>secret</p>loose</body></html>"""
    extract = html.parse(page.encode())
    assert extract.title == "A page"
    assert blocks(extract) == [
        ("Doors", "Doors"),
        ("Doors", "They open and close. Always."),
        ("Doors", "one"),
        ("Doors", "two"),
        ("Doors › Code", "Code"),
        ("Doors › Code", "a\n  b"),
        ("Doors › Code", "1 | 2"),
        ("Doors › Code", "loose"),
    ]


def test_charsets_and_depth_are_handled() -> None:
    assert html.parse('<meta charset="iso-8859-1"><p>é'.encode("latin-1")).text == "é"
    assert html.parse(b"<div>" * 5_000 + b"deep").text == "deep"
