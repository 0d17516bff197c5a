"""The web shop: pages, links, reward."""

from __future__ import annotations

import random

import pytest

from archer.envs.base import play_scripted
from archer.envs.web_shop.catalogue import HELD_OUT, Goal, Product, goals, products, reward, search
from archer.envs.web_shop.env import WebShop

GOAL = Goal("lamp", "home", ("modern", "soft"), "red", "small", 50)
LAMP = Product("P1", "Acme soft modern lamp", "lamp", "home", ("dimmable", "modern", "soft"), ("red",), ("small",), 50)


def _reward(chosen: set[str], **changes: object) -> float:
    import dataclasses

    return reward(GOAL, dataclasses.replace(LAMP, **changes), frozenset(chosen))  # type: ignore[arg-type]


def test_reward_is_the_share_of_wishes_met_times_that_of_the_type() -> None:
    both = {"red", "small"}
    assert _reward(both) == 1.0  # 2 attributes, 2 options, the price: 5 of 5
    assert _reward(both, price=51) == pytest.approx(4 / 5)
    assert _reward({"red"}) == pytest.approx(4 / 5)
    assert _reward(both, attributes=("soft",)) == pytest.approx(4 / 5)
    assert _reward(both, colours=("blue",)) == pytest.approx(4 / 5)  # what is not offered is not chosen
    assert _reward(both, kind="rug") == pytest.approx(0.5)
    assert _reward(both, kind="mug", group="kitchen") == pytest.approx(0.1)  # its title is soft, too
    assert _reward(both, kind="mug", group="kitchen", title="Acme mug") == 0.0


def test_every_instruction_can_be_met_and_those_of_evaluations_are_others() -> None:
    assert len(goals()) == 12_000 and len(products()) == 288
    for goal in goals()[::40]:
        wanted = frozenset({goal.colour, goal.size})
        assert max(reward(goal, product, wanted) for product in products().values()) == 1.0
    first = {WebShop().reset(seed=seed)[0].partition(" Search.")[0] for seed in range(0, 2000, 2)}  # type: ignore[union-attr]
    held = {WebShop().reset(seed=seed)[0].partition(" Search.")[0] for seed in range(1, 2000, 2)}  # type: ignore[union-attr]
    texts = [goal.text for goal in goals()]
    assert first <= set(texts[:-HELD_OUT]) and len(first) > 900
    assert held <= set(texts[-HELD_OUT:]) and len(held) > 400


def test_search_prefers_what_shares_rare_words() -> None:
    found = search("waterproof boots")
    best = products()[found[0]]
    assert "boots" in best.title and "waterproof" in best.title
    assert search("nothing at all") == ()


def test_pages_lead_to_one_another() -> None:
    env = WebShop()
    env.reset(options={"goal": 0})
    said = env.step("search[lamp]")[0]
    assert str(said).startswith("Page 1, 12 found. [P")
    assert env.links()[3:] == ("Next >", "Back to Search")
    env.step("click[Next >]")
    assert env.links()[3:] == ("< Prev", "Next >", "Back to Search")
    code = env.links()[0]
    page = str(env.step(f"click[{code}]")[0])
    product = products()[code]
    assert page.startswith(f"{product.title} ${product.price}.")
    env.step(f"click[{product.colours[0]}]")
    page = str(env.step(f"click[{product.colours[1]}]")[0])  # one colour only
    assert f"Chosen: {product.colours[1]}." in page
    assert str(env.step("click[Features]")[0]).startswith(", ".join(product.attributes))
    assert "Chosen" in str(env.step("click[< Prev]")[0])
    assert str(env.step("click[< Prev]")[0]).startswith("Page 2")
    assert env.step("click[Back to Search]")[0] == "Search."


@pytest.mark.parametrize(
    "said", ["buy it", "click[Buy Now]", "click[]", "search[]", "click[P000]", "search[a] search[b]", "["]
)
def test_what_a_page_does_not_have_is_invalid(said: str) -> None:
    env = WebShop()
    env.reset(seed=0)
    observation, reward_, over, *_ = env.step(said)
    assert str(observation).startswith("Invalid action! Search.") and reward_ == 0.0 and not over


def test_ten_actions_are_all_there_are() -> None:
    env = WebShop()
    env.reset(seed=0)
    assert [env.step("hm")[3] for _ in range(10)] == [False] * 9 + [True]


def test_the_reference_buys_well_and_anybody_can_click_around() -> None:
    env = WebShop()
    assert env.reference_return() == pytest.approx(0.818)
    for seed in range(30):
        chance = random.Random(seed)
        env.reset(seed=seed)
        for _ in range(10):
            links = env.links()
            said = f"click[{chance.choice(links)}]" if links else "search[red soap]"
            _, gained, terminated, truncated, _ = env.step(said)
            assert 0.0 <= gained <= 1.0
            if terminated or truncated:
                break
    assert play_scripted(env, env.reference(0), seed=3).terminated
