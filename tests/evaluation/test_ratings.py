"""Tables of ratings: means, names, and a line for each bad line."""

import pytest

from facerecon_lib.evaluation.ratings import RatingsError, ratings_of, read_ratings


def written(path, *lines):
    path.write_text("\n".join(lines), encoding="utf-8-sig")
    return path


def test_several_rows_and_columns_are_averaged(tmp_path):
    lines = (
        "photo, tone1,tone2,note",
        "me.jpg,3,4,outdoors",
        "",
        "you.png,10,10,",
        "me.jpg,5.5,5.5,",
    )
    ratings, problems = read_ratings(written(tmp_path / "r.csv", *lines))
    assert ratings == {"me.jpg": pytest.approx(4.5), "you.png": 10}
    assert problems == []


def test_each_bad_line_is_told_with_its_number_and_the_others_count(tmp_path):
    lines = "photo,tone", "a.jpg,11", "b.jpg,4", "c.jpg", "d.jpg,dark", ",3", "e.jpg,nan"
    path = written(tmp_path / "r.csv", *lines)
    ratings, problems = read_ratings(path)
    assert ratings == {"b.jpg": 4}
    assert [p.removeprefix(f"{path}: line ").split(":")[0] for p in problems] == list("24567")
    for problem, words in zip(
        problems, ("'11'", "got 1", "'dark'", "no photo", "'nan'"), strict=True
    ):
        assert words in problem
        assert "\n" not in problem


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "its first line is ''"),
        (b"photo,colour\na,1\n", "expected photo,tone"),
        (b"tone\n1\n", "expected photo,tone"),
        (b"photo,tone\n\xff\xfe,1\n", "is no table of text"),
    ],
)
def test_a_file_without_ratings_is_refused(tmp_path, content, says):
    (tmp_path / "r.csv").write_bytes(content)
    with pytest.raises(RatingsError, match=r"r\.csv: ") as refusal:
        read_ratings(tmp_path / "r.csv")
    assert says in str(refusal.value)
    with pytest.raises(RatingsError, match="cannot be read"):
        read_ratings(tmp_path / "gone.csv")


def test_a_photo_is_named_with_or_without_folder_and_suffix():
    ratings = {"me.jpg": 2.0, "you": 3.0, "other": 4.0}
    photos = ["here/me.jpg", "you.png", "nobody.png", "me.png"]
    assert ratings_of(photos, ratings) == {"here/me.jpg": 2.0, "you.png": 3.0}
