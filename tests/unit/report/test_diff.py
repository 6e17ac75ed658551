"""Two audits compared: nothing against itself, and what changed by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from markdown_it import MarkdownIt

from analyzer.report.diff import compare, diff_markdown, diff_status, diff_text, is_empty
from tests.document_example import HOSTILE, example_document


def copy(connections: int = 60) -> Any:
    return json.loads(json.dumps(example_document(connections)))


def changed(*changes: Callable[[Any], object]) -> Any:
    document = copy()
    for change in changes:
        change(document)
    return document


def without(code: str) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        document["findings"] = [f for f in document["findings"] if f["code"] != code]

    return change


def moved(document: Any) -> None:
    """All servers have other addresses, and the names they had."""
    data = document["connections"]["data"]
    for side in ("client_ip", "server_ip"):
        data[side] = [f"172.16.{address.replace('.', '')[-4:]}" for address in data[side]]
    for entry in document["endpoints"]:
        entry["address"] = f"172.16.{entry['address'].replace('.', '')[-4:]}"


def states(entries: Any) -> list[tuple[str, str]]:
    return [(entry["state"], entry["id"]) for entry in entries]


@pytest.mark.parametrize("connections", [0, 1, 60])
def test_a_document_differs_in_nothing_from_itself(connections: int) -> None:
    difference = compare(copy(connections), copy(connections))

    assert is_empty(difference)
    assert diff_text(difference).endswith("No difference.\n")
    assert diff_status(difference, [copy()], "any") == 0


def test_more_traffic_of_the_same_kind_is_no_difference() -> None:
    def longer(document: Any) -> None:
        data = document["connections"]["data"]
        for name in ("packets", "octets", "first_frame", "client_port"):
            data[name] = [number + 7 for number in data[name]]
        for finding in document["findings"]:
            finding["frames"] = [frame + 7 for frame in finding["frames"]]
            finding["connections"] = finding["connections"] * 2
        for channel in document["channels"]:
            channel["connections"] += 7

    assert is_empty(compare(copy(), changed(longer)))


def test_channels_and_findings_that_appear_and_go() -> None:
    more, less = copy(), changed(without("PW201"), lambda d: d["channels"].pop(0))
    gone = more["channels"][0]

    forth, back = compare(less, more), compare(more, less)

    assert states(forth["findings"]) == [("appeared", "PW201/apiserver-to-pod-proxy")]
    assert forth["findings"][0]["worse"]
    assert states(back["findings"]) == [("went", "PW201/apiserver-to-pod-proxy")]
    assert not back["findings"][0]["worse"]
    [channel] = forth["channels"]
    assert (channel["state"], channel["id"], channel["old"], channel["new"]) == (
        "appeared", gone["id"], None, gone["verdict"],
    )  # fmt: skip
    assert states(back["channels"]) == [("went", gone["id"])]


def test_a_channel_that_changes_its_verdict() -> None:
    def sound(document: Any) -> None:
        document["channels"][0] |= {"verdict": "sound", "sentence": "All is well."}

    [channel] = compare(copy(), changed(sound))["channels"]

    assert (channel["state"], channel["old"], channel["new"]) == ("changed", "at-risk", "sound")


def test_a_server_that_changes_an_answer() -> None:
    def verified(document: Any) -> None:
        data = document["connections"]["data"]
        for row, channel in enumerate(data["channel"]):
            if channel == "apiserver-to-kubelet" and data["server_name"][row] == "node-1":
                data["server_verification"][row] = "verified"

    servers = compare(copy(), changed(verified))["servers"]

    assert [(s["state"], s["question"], s["old"], s["new"]) for s in servers] == [
        ("changed", "server_verification", "unverified", "verified")
    ]
    assert servers[0]["server"] == "node-1:10250"


def test_names_stand_before_addresses() -> None:
    names = copy()["connections"]["data"]["server_name"]
    assert any(names)

    difference = compare(copy(), changed(moved))

    assert not difference["findings"] or all(
        "10.0.0" in " ".join(f["changes"]) or "172.16" in " ".join(f["changes"]) for f in difference["findings"]
    )
    named = {s["server"].rsplit(":", 1)[0] for s in difference["servers"]} & set(filter(None, names))
    assert named == set()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("shop/web-7d9f8c6b5-x2x4z", "shop/web-5c4d7b9f8-bbq2k"),
        ("kube-system/kube-proxy-x2x4z", "kube-system/kube-proxy-zz9vl"),
        ("shop/db-0", "shop/db-0"),
    ],
)
def test_pods_of_one_workload_are_one_server(old: str, new: str) -> None:
    def named(name: str, address: str) -> Callable[[Any], None]:
        def change(document: Any) -> None:
            data = document["connections"]["data"]
            rows = [row for row, channel in enumerate(data["channel"]) if channel == "apiserver-to-pod-proxy"]
            for row in rows:
                data["server_name"][row], data["server_ip"][row] = name, address
            document["endpoints"].append({"address": address, "names": [name], "roles": []})

        return change

    assert is_empty(compare(changed(named(old, "10.244.1.9")), changed(named(new, "10.244.3.4"))))


def test_a_name_that_one_side_alone_knows_names_the_address_on_both() -> None:
    def nameless(document: Any) -> None:
        document["connections"]["data"]["server_name"] = [""] * 60
        for entry in document["endpoints"]:
            entry["names"] = []

    assert is_empty(compare(copy(), changed(nameless)))


def suppressed(document: Any) -> None:
    accepted = next(f["suppression"] for f in document["findings"] if f["suppression"])
    for finding in document["findings"]:
        finding["suppression"] = accepted


def test_what_is_accepted_now_is_no_worse_and_what_is_accepted_no_more_is() -> None:
    accepted = compare(copy(), changed(suppressed))["findings"]
    again = compare(changed(suppressed), copy())["findings"]

    assert accepted
    assert all(f["state"] == "changed" and not f["worse"] and f["suppressed"] for f in accepted)
    assert all(f["state"] == "changed" and f["worse"] and not f["suppressed"] for f in again)


@pytest.mark.parametrize(
    ("fail_on", "status"),
    [("any", 1), ("info", 1), ("high", 1), ("critical", 0), ("never", 0)],
)
def test_the_status_follows_what_got_worse(fail_on: str, status: int) -> None:
    difference = compare(changed(without("PW102")), copy())  # a finding of severity high

    assert diff_status(difference, [copy()], fail_on) == status


def test_what_got_better_fails_only_when_anything_shall() -> None:
    difference = compare(copy(), changed(without("PW102")))

    assert diff_status(difference, [copy()], "info") == 0
    assert diff_status(difference, [copy()], "any") == 1
    damaged = changed(lambda d: d["captures"][0].update(damage=[{"offset": 1, "reason": "cut"}]))
    assert diff_status(difference, [copy(), damaged], "high") == 4


def test_hostile_text_is_inert() -> None:
    def hostile(document: Any) -> None:
        document["captures"][0]["name"] = "".join(HOSTILE)
        for number, entry in enumerate(document["endpoints"]):
            entry["names"] = [HOSTILE[number % len(HOSTILE)]]
        document["channels"][0]["verdict"] = "sound"
        document["channels"][0]["sentence"] = HOSTILE[2] + "|" + HOSTILE[4]

    document = changed(hostile)
    difference = compare(changed(without("PW201"), lambda d: d["endpoints"].clear()), document)
    text, markdown = diff_text(difference), diff_markdown(difference)

    assert difference["channels"]
    assert any(text in change for text in HOSTILE for f in difference["findings"] for change in f["changes"])
    for output in (text, markdown):
        assert all(character == "\n" or character.isprintable() for character in output)
    tokens = [t for b in MarkdownIt("commonmark").enable("table").parse(markdown) for t in [b, *(b.children or [])]]
    assert not {t.type for t in tokens} & {"html_inline", "html_block", "link_open", "image", "fence"}
