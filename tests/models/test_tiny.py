"""The built-in model's tokenizer: phrases are tokens, and numbers can be copied."""

from __future__ import annotations

from archer.models.tiny import train_tokenizer

HEARD = ["Order 504 is late.", '{"tool": "cancel", "order": 504}', "Write to sara17@mail.", "Lower than 17."]


def test_a_number_is_written_alike_wherever_it_stands() -> None:
    tokenizer = train_tokenizer(HEARD * 20, 600)

    def pieces(text: str, number: str) -> list[str]:
        """All tokens that touch the number."""
        start = text.index(number)
        end = start + len(number)
        offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        return [text[a:b] for a, b in offsets if a < end and b > start]

    assert pieces(HEARD[0], "504") == pieces(HEARD[1], "504") == ["504"]
    assert pieces(HEARD[2], "17") == pieces(HEARD[3], "17") == ["17"]


def test_a_phrase_becomes_one_token_and_anything_can_be_said() -> None:
    tokenizer = train_tokenizer(["Is it alive?", "No."] * 20, 600)
    assert len(tokenizer("Is it alive?", add_special_tokens=False)["input_ids"]) == 1
    for text in (*HEARD, "Ünïcode, 東京 and \n lines"):
        assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text
