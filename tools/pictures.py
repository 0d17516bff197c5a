"""Draws the pictures of docs/method.md: `python tools/pictures.py` writes them into docs/pictures/.

Each stands on a light card of its own, so that it reads the same on a light and on a dark page.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "docs" / "pictures"
INK, SOFT, CARD = "#1d2b2a", "#5b6b69", "#f7f8f5"
TEAL, AMBER, RED, GREEN = "#cfe8e3", "#f6e3bd", "#b3261e", "#1b6e37"


class Picture:
    """An SVG that grows by shapes."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self.size, self.title = (width, height), title
        self.parts: list[str] = []

    def box(self, x: float, y: float, w: float, h: float, fill: str, *lines: str, size: int = 14) -> None:
        """A rounded box with centred lines of text."""
        self.parts.append(
            f'<rect x="{x}" y="{y}" width="{w}" height="{h}" rx="6" fill="{fill}" stroke="{SOFT}" stroke-width="1"/>'
        )
        top = y + h / 2 - (len(lines) - 1) * (size + 4) / 2 + size * 0.36
        for number, line in enumerate(lines):
            self.text(x + w / 2, top + number * (size + 4), line, size=size, anchor="middle")

    def text(self, x: float, y: float, text: str, size: int = 14, anchor: str = "start", fill: str = INK) -> None:
        self.parts.append(
            f'<text x="{x}" y="{y}" font-size="{size}" text-anchor="{anchor}" fill="{fill}">{escape(text)}</text>'
        )

    def arrow(self, *points: tuple[float, float], dashed: bool = False, fill: str = SOFT) -> None:
        """A line through points, with its head at the last."""
        path = " ".join(f"{x},{y}" for x, y in points)
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self.parts.append(
            f'<polyline points="{path}" fill="none" stroke="{fill}" stroke-width="1.6" marker-end="url(#head)"{dash}/>'
        )

    def write(self, name: str) -> None:
        """The finished file."""
        width, height = self.size
        head = (
            '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
            f'<path d="M0 0L8 4L0 8z" fill="{SOFT}"/></marker>'
        )
        body = "\n".join(self.parts)
        (FOLDER / f"{name}.svg").write_text(
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
            f'font-family="Helvetica, Arial, sans-serif"><title>{escape(self.title)}</title><defs>{head}</defs>\n'
            f'<rect width="{width}" height="{height}" rx="10" fill="{CARD}"/>\n{body}\n</svg>\n',
            encoding="utf-8",
        )


def levels() -> None:
    """A conversation as turns, and one utterance of it as tokens."""
    picture = Picture(820, 330, "Two levels: a conversation is a chain of utterances, an utterance a chain of tokens")
    picture.text(20, 34, "High level: a step is an utterance", size=16)
    for number in range(3):
        x = 20 + number * 250
        picture.box(x, 52, 100, 52, TEAL, f"state s{number + 1}", "all heard so far", size=12)
        picture.arrow((x + 100, 78), (x + 132, 78))
        picture.box(x + 132, 52, 84, 52, AMBER, f"utterance a{number + 1}", f"reward r{number + 1}", size=12)
        if number < 2:
            picture.arrow((x + 216, 78), (x + 250, 78))
        picture.text(x + 4, 124, f"V(s{number + 1})", size=12, fill=SOFT)
        picture.text(x + 136, 124, f"Q(s{number + 1}, a{number + 1})", size=12, fill=SOFT)
    picture.text(756, 82, "end", size=14)
    picture.arrow((736, 78), (752, 78))
    picture.text(20, 184, "Low level: a step is a token", size=16)
    picture.arrow((444, 130), (444, 166), dashed=True)
    for number, token in enumerate(("Is", "it", "an", "animal", "?", "stop")):
        x = 270 + number * 78
        picture.box(x, 200, 66, 40, AMBER, token)
        if number < 5:
            picture.arrow((x + 66, 220), (x + 78, 220))
    picture.text(20, 224, "the tokens of a2, one decision each", size=13, fill=SOFT)
    picture.arrow((693, 240), (693, 272))
    picture.text(450, 292, "at the stop, and only there: A = Q(s2, a2) − V(s2)", size=14)
    below = "No reward of the environment reaches the token level; the critic's judgement of the whole utterance does."
    picture.text(20, 316, below, size=12, fill=SOFT)
    picture.write("levels")


def loop() -> None:
    """What flows where in an iteration."""
    picture = Picture(820, 330, "An iteration: play, keep, learn what utterances are worth, learn what to say")
    picture.box(20, 120, 120, 60, TEAL, "environments", "text in, text out", size=13)
    picture.box(210, 120, 120, 60, AMBER, "actor π", "plays", size=13)
    picture.box(400, 120, 130, 60, TEAL, "replay", "all games so far", size=13)
    picture.box(400, 220, 130, 56, TEAL, "demonstrations", "or logs", size=13)
    picture.box(640, 40, 160, 70, AMBER, "critic learns", "Q, V from all games", size=13)
    picture.box(640, 200, 160, 70, AMBER, "actor learns", "to say what is good", size=13)
    picture.arrow((140, 140), (210, 140))
    picture.text(175, 132, "heard", size=12, anchor="middle", fill=SOFT)
    picture.arrow((210, 164), (140, 164))
    picture.text(175, 180, "said", size=12, anchor="middle", fill=SOFT)
    picture.arrow((330, 150), (400, 150))
    picture.text(365, 142, "games", size=12, anchor="middle", fill=SOFT)
    for y in (150, 248):  # batches are drawn from both, by both
        picture.arrow((530, y), (585, y), (585, 85), (640, 85))
        picture.arrow((530, y), (585, y), (585, 235), (640, 235))
    picture.text(592, 160, "batches", size=12, fill=SOFT)
    picture.arrow((720, 110), (720, 200))
    picture.text(728, 160, "advantages", size=12, fill=SOFT)
    picture.arrow((640, 60), (270, 60), (270, 120), dashed=True)
    picture.text(455, 52, "chooses among 10 utterances while games are played", size=12, anchor="middle", fill=SOFT)
    picture.arrow((720, 270), (720, 304), (270, 304), (270, 180), dashed=True)
    picture.text(495, 297, "new weights play next", size=12, anchor="middle", fill=SOFT)
    picture.write("loop")


def credit(said: list[tuple[str, str, float, float]]) -> None:
    """One game: what its single return says about each utterance, and what the critic says."""
    height = 70 + 34 * len(said)
    picture = Picture(820, height, "One game: the return blames all utterances alike, advantages tell them apart")
    total = -(len(said) - 1)
    columns = {20: "heard", 270: "said", 400: "return of the game", 560: "V(s)", 635: "Q(s, a)", 720: "A = Q − V"}
    for x, name in columns.items():
        picture.text(x, 34, name, size=13, fill=SOFT)
    for number, (heard, utterance, q, v) in enumerate(said):
        y = 66 + number * 34
        picture.text(20, y, heard, size=14)
        picture.box(264, y - 20, 70, 28, AMBER, utterance)
        picture.text(430, y, f"{total:+d}".replace("-", "−"), fill=RED)
        picture.text(560, y, f"{v:.2f}".replace("-", "−"))
        picture.text(635, y, f"{q:.2f}".replace("-", "−"))
        picture.text(730, y, f"{q - v:+.2f}".replace("-", "−"), fill=GREEN if q > v else RED)
    picture.write("credit")


def siblings() -> None:
    """How one row of tokens carries a whole game and what else could have been said."""
    picture = Picture(820, 250, "One pass: a game is one row, other utterances branch off it")
    picture.text(
        20, 34, "One row, one pass: every Q and V of the game, and those of what might have been said", size=16
    )
    x = 20.0
    for number in (1, 2, 3):
        for text, fill, width in (("heard", TEAL, 90), (f"a{number}", AMBER, 70)):
            picture.box(x, 64, width, 40, fill, text)
            x += width + 8
    for x, name in ((96, "V1"), (166, "Q1"), (272, "V2"), (342, "Q2"), (448, "V3"), (518, "Q3")):
        picture.text(x, 58, name, size=12, anchor="middle", fill=SOFT)
    for number, x in enumerate((96, 272, 448)):
        for branch in range(2):
            y = 140 + branch * 44
            picture.arrow((x, 104), (x, y + 16), (x + 22, y + 16))
            picture.box(x + 22, y, 84, 32, "#ffffff", f"ã{number + 1}, {branch + 1}", size=13)
    picture.text(600, 156, "siblings: sampled at the", size=12, fill=SOFT)
    picture.text(600, 174, "same state, never sent to", size=12, fill=SOFT)
    picture.text(600, 192, "the environment; each sees", size=12, fill=SOFT)
    picture.text(600, 210, "its state and itself only", size=12, fill=SOFT)
    picture.write("siblings")


GAME = [
    ("Guess a number from 1 to 20.", "10", -3.004, -2.896),
    ("Higher.", "15", -1.99, -1.98),
    ("Lower.", "3", -2.29, -1.42),
    ("Higher.", "12", -1.29, -1.52),
]
"""Heard, said, Q, V: the conversation of the first tutorial, as its run of seed 0 scored it."""

if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    levels()
    loop()
    credit(GAME)
    siblings()
