"""The report: whole, escaped, small, and self-contained."""

import json
import re
import time
from html.parser import HTMLParser

import pytest

from lab.checks import judge, kernel_quiet, measures, overall, reached, stall_below
from lab.errors import BadInput
from lab.report import write_report
from lab.report.run import Run
from lab.timeline import Timeline

T = 1_795_332_000.0
HOSTILE = '<script>alert("x")</script>&amp;'
VOID = {"meta", "br", "link"}


class Page(HTMLParser):
    """Checks nesting, and collects tags, attributes and text."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.attributes, self.text = [], [], [], ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data


def takeover(host="h1", seconds=3.0, every=0.002, stall=0.030):
    """The events of a port that dies at 1 s and whose address another port takes."""
    address = {"kind": "address", "address": "10.0.0.12", "source": "kernel"}
    login = {"kind": "login", "where": host, "isid": "00023d000001", "source": "wire"}
    events = [
        {"t": T - 2, "where": "lab", "kind": "config", "virtual": ["10.0.0.1"],
         "ports": {"p1": ["10.0.0.11"], "p2": ["10.0.0.12"]}, "macs": {"p1": "02:00:00:00:00:11"}},
        {"t": T - 2, "where": "p1", **address, "address": "10.0.0.1", "op": "add"},
        {"t": T - 2, "where": "p2", **address, "op": "add"},
        {"t": T - 0.5, **login, "portal": "10.0.0.1:3260", "status": "0x0101",
         "target_address": "10.0.0.12:3260"},
        {"t": T - 0.4, **login, "portal": "10.0.0.12:3260", "status": "0x0000",
         "target_address": None},
        {"t": T, "where": host, "kind": "load", "phase": "begin", "name": "w"},
        {"t": T + 1, "where": "p2", "kind": "fault", "name": "carrier-loss", "phase": "begin"},
        {"t": T + 1.001, "where": "a1", "kind": "controller", "what": "port-down", "port": "p2"},
        {"t": T + 1.004, "where": "p2", **address, "op": "del"},
        {"t": T + 1.005, "where": "p1", **address, "op": "add"},
        {"t": T + 1.006, "where": host, "kind": "announcement", "address": "10.0.0.12",
         "mac": "02:00:00:00:00:11", "source": "wire"},
        {"t": T + 2, "where": "p2", "kind": "fault", "name": "carrier-loss", "phase": "end"},
        {"t": T + seconds, "where": host, "kind": "load", "phase": "end", "name": "w"},
    ]  # fmt: skip
    for n in range(1, int(seconds / every)):
        t = n * every
        if not 1 <= t < 1 + stall:
            events.append(
                {"t": T + t, "where": host, "kind": "io", "op": "write", "seq": n, "block": n,
                 "start": T + t - 0.001, "status": "ok"}
            )  # fmt: skip
    return events


def folder(path, events, **changes):
    timeline = Timeline(path / "timeline.jsonl")
    timeline.extend(events)
    timeline.close()
    findings = judge(timeline, [reached(), stall_below("h1", 60), kernel_quiet()])
    result = {
        "scenario": "port-takeover",
        "description": "A port dies and another one takes its address.",
        "verdict": overall(findings),
        "topology": "one_switch",
        "versions": {"kernel": "6.12.48"},
        "checks": [f.as_json() for f in findings],
        "measures": measures(timeline),
        "started": "2026-11-22T07:20:00Z",
        "duration_s": 9.4,
        "seed": 7,
        "command": "lab run port-takeover --seed 7",
    }
    (path / "result.json").write_text(json.dumps({**result, **changes}))
    return path


def page_of(path):
    return Page(write_report(path).read_text(encoding="utf-8"))


def test_it_tells_what_happened(tmp_path):
    page = page_of(folder(tmp_path, takeover()))
    for said in (
        "Unknown",
        "port-takeover",
        "A port dies and another one takes its address.",
        "h1 was redirected by 10.0.0.1 to 10.0.0.12 (p2).",
        "At 1.00 s: carrier-loss at p2 for 1.00 s.",
        "10.0.0.12 was up on p1 5.0 ms after the fault.",
        "p2 → p1",
        "32 ms",
        "6.12.48",
        "lab run port-takeover --seed 7",
    ):
        assert said in page.text, said
    result = json.loads((tmp_path / "result.json").read_text())
    for check in result["checks"]:
        assert check["name"] in page.text
        assert check["evidence"] in page.text
    assert page.tags.count("svg") > 2
    assert page.tags.count("title") > 5


def test_a_chart_closer_to_the_fault_counts_from_it(tmp_path):
    page = page_of(folder(tmp_path, takeover()))
    assert "carrier-loss at p2, closer milliseconds since it began" in page.text
    assert re.search(r"5\.0 ms\s*kernel\s*10\.0\.0\.12 up on p1", page.text)


def test_what_failed_comes_first(tmp_path):
    checks = [
        {"name": "a", "verdict": "pass", "evidence": "first"},
        {"name": "b", "verdict": "fail", "evidence": "second"},
    ]
    page = page_of(folder(tmp_path, takeover(), checks=checks, verdict="fail"))
    assert page.text.index("second") < page.text.index("first")


def test_it_needs_nothing_from_elsewhere(tmp_path):
    text = write_report(folder(tmp_path, takeover())).read_text()
    assert "http" not in text
    assert "@import" not in text
    assert "url(" not in text
    assert not {"script", "img", "iframe", "link", "object"} & set(Page(text).tags)


def test_hostile_names_are_text(tmp_path):
    events = takeover(host=HOSTILE)
    events.append({"t": T + 1.2, "where": "a1", "kind": "controller", "what": HOSTILE})
    checks = [{"name": HOSTILE, "verdict": "fail", "evidence": HOSTILE}]
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / '"><script>.log').write_text("")
    path = folder(
        tmp_path,
        events,
        scenario=HOSTILE,
        description=HOSTILE,
        command=[HOSTILE],
        checks=checks,
        verdict="fail",
        versions={HOSTILE: HOSTILE},
    )
    page = page_of(path)
    assert "script" not in page.tags
    assert HOSTILE in page.text
    assert not [a for a in page.attributes if a[1].startswith("on")]


def test_files_of_the_run_are_linked(tmp_path):
    for name in ("pcap/h1.pcap", "logs/h1 console.log"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    page = page_of(folder(tmp_path, takeover()))
    links = {value for tag, name, value in page.attributes if (tag, name) == ("a", "href")}
    assert links == {"result.json", "timeline.jsonl", "pcap/h1.pcap", "logs/h1%20console.log"}


@pytest.mark.parametrize(
    "events",
    [
        [],
        takeover()[:1],
        [e for e in takeover() if e["kind"] != "io"],
        [e for e in takeover() if e["kind"] not in ("address", "config")],
        [e for e in takeover() if e["kind"] != "load"],
        [e for e in takeover() if e.get("phase") != "end"],
        [e for e in takeover() if e["kind"] == "fault"],
        [*takeover(), {"t": T + 1.1, "where": "h1", "kind": "login", "portal": "[fd00::1]:3260",
                       "status": None, "target_address": None, "isid": ""}],
    ],
)  # fmt: skip
def test_a_run_that_lacks_something_still_has_a_report(tmp_path, events):
    page = page_of(folder(tmp_path, events))
    assert "Unknown" in page.text
    if not any(e["kind"] == "io" for e in events):
        assert "No I/O was recorded." in page.text


def test_a_result_with_a_verdict_only(tmp_path):
    (tmp_path / "result.json").write_text('{"verdict": "unknown"}')
    assert "No check was made." in page_of(tmp_path).text


def test_without_a_timeline(tmp_path):
    folder(tmp_path, takeover())
    (tmp_path / "timeline.jsonl").unlink()
    assert "No event was recorded." in page_of(tmp_path).text


def test_many_faults_and_controller_events_stay_small(tmp_path):
    events = takeover()
    for n in range(3000):
        t = T + n / 1000
        events.append(
            {"t": t, "where": "a1", "kind": "controller", "what": "suspect", "port": "p1"}
        )
        phase = "end" if n % 2 else "begin"
        events.append({"t": t, "where": "p1", "kind": "fault", "name": "flap", "phase": phase})
    report = write_report(folder(tmp_path, events))
    assert report.stat().st_size < 2_000_000


def test_a_long_run_is_small_and_quick(tmp_path):
    path = folder(tmp_path, takeover(seconds=400, every=0.002))
    began = time.perf_counter()
    report = write_report(path)
    assert time.perf_counter() - began < 6  # about 1.3 s on two quiet cores
    assert report.stat().st_size < 300_000
    Page(report.read_text())


def test_the_port_that_serves_follows_its_address():
    timeline = Timeline()
    timeline.extend(takeover())
    run = Run({"measures": {}}, timeline)
    assert [(s.port, s.address) for s in run.served["h1"]] == [
        ("p2", "10.0.0.12"),
        ("", "10.0.0.12"),
        ("p1", "10.0.0.12"),
    ]


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"verdict": "maybe"}', "{}"])
def test_a_result_that_cannot_be_used(tmp_path, content):
    if content is not None:
        (tmp_path / "result.json").write_text(content)
    with pytest.raises(BadInput, match=r"result\.json"):
        write_report(tmp_path)
