"""CVAT: what its files mean, and what in them cannot be right."""

from __future__ import annotations

import logging

import pytest
from annotation_files import cvat, heads, save

from engine.dataset.samples import find_samples
from engine.errors import ConfigError


def test_shapes_of_cvat(data, caplog):
    shapes = (
        '<points label="head" points="10.5,20;30,40"></points>',
        '<box label="head" xtl="0" ytl="10" xbr="20" ybr="30" rotation="45.0"><attribute name="a">b</attribute></box>',
        '<ellipse label="head" cx="50" cy="60" rx="5" ry="6"/>',
        '<polygon label="head" points="0,0;10,0;10,8"/>',
        '<polyline label="head" points="0,0;10,0"/>',
        '<skeleton label="head"><points label="nose" outside="1" points="1,1"/>'
        '<points label="left_ear" outside="0" points="70,30"/><points label="right_ear" points="80,32"/></skeleton>',
    )
    save(data, "annotations.xml", cvat(*shapes))
    with caplog.at_level(logging.WARNING, logger="engine"):
        assert heads(data) == {"1.jpg": [[10.5, 20], [30, 40], [10, 20], [50, 60], [5, 4], [75, 31]]}
    assert "left out shapes that are no heads: polyline" in caplog.text


BOMB = '<!DOCTYPE lolz [<!ENTITY a "aaaaaaaaaa">' + "".join(
    f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefghi", "bcdefghij", strict=True)
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            cvat('<points label="head" points="10;20"/>'),
            r"annotations\.xml, line 5: y of <points> must be a number, got ''",
        ),
        (
            cvat('<points label="head" points="1,2"/>', '<points label="head" points="nan,2"/>'),
            r"line 6: x of <points>",
        ),
        (cvat('<points label="head" points="10,5,20,5"/>'), r"line 5: y of <points> must be a number, got '5,20,5'"),
        (cvat('<points label="head" points="900,5"/>'), r"annotations\.xml, line 5: \(900, 5\) lies outside"),
        (cvat('<points points="1,2"/>'), r"line 5: <points> has no label"),
        (cvat('<box label="head" xtl="1" ytl="2" xbr="3"/>'), r"line 5: <box> has no ybr"),
        (cvat('<skeleton label="head"></skeleton>'), r"line 5: the skeleton 'head' has no visible points"),
        (cvat("<points"), r"line 6 is not XML"),
        (cvat(name="gone.jpg"), r"points of 'gone\.jpg', not in"),
        (cvat()[:-5], r"is not XML"),
        (
            '<annotations><track id="0" label="head"></track></annotations>',
            'line 1: this is "CVAT for video"; export as',
        ),
        (
            '<?xml version="1.0"?>' + BOMB + "]><annotations>&j;</annotations>",
            "line 1: a document type, .* is not read",
        ),
        ('<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotations>&x;</annotations>', "a document type"),
        ('<?xml version="1.0" encoding="ut-8"?><annotations/>', "line 1 names an encoding that is not read"),
        ("<annotations>" + "<a>" * 1000 + "</a>" * 1000 + "</annotations>", "nests deeper than 32 elements"),
    ],
    ids=range(15),
)
def test_cvat_that_cannot_be_right_is_refused_with_its_line(content, message, data):
    save(data, "annotations.xml", content)
    with pytest.raises(ConfigError, match=message):
        find_samples(data)


def test_xml_of_others_is_left_alone(data):
    save(data, "1.xml", "<annotation><filename>1.jpg</filename></annotation>")
    with pytest.raises(ConfigError, match="no annotated pictures below"):
        find_samples(data)
    save(data, "2.xml", '<?xml version="1.0"?><other/>')
    with pytest.raises(ConfigError, match=r"line 1: expected <annotations> of CVAT, got <other>"):
        find_samples(data, annotations=data / "2.xml", form="cvat")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("declared", ["utf-8", "UTF-16"])
def test_cvat_in_utf_16(encoding, declared, data):
    text = cvat('<points label="head" points="10.5,20"/>').replace("utf-8", declared)
    (data / "annotations.xml").write_bytes(text.encode(encoding))
    assert heads(data) == {"1.jpg": [[10.5, 20]]}
    assert heads(data, annotations=data / "annotations.xml", form="cvat") == {"1.jpg": [[10.5, 20]]}
    (data / "annotations.xml").write_bytes(text.encode(encoding)[:-1])
    with pytest.raises(ConfigError, match=r"annotations\.xml is no text in UTF-16 .*; save it as UTF-8"):
        find_samples(data)


def test_a_link_to_an_xml_file_that_is_gone_is_told(data):
    (data / "annotations.xml").symlink_to(data / "gone.xml")
    with pytest.raises(ConfigError, match=r"annotations\.xml cannot be read"):
        find_samples(data)
