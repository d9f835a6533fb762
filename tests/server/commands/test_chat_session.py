"""`saccade chat` as a session in a real pseudo-terminal."""

import json
import re
import stat
import subprocess
from pathlib import Path

from PIL import Image

MEDIA = Path(__file__).parents[3] / "demo" / "media"
CLIP, PHOTO = MEDIA / "bunny.mp4", MEDIA / "temple.jpg"


def test_turns_are_sent_whole_and_lines_are_kept(terminal, chat_server, tmp_path):
    session = terminal("--system", "Briefly.", "--picture", "none")
    assert "first at http" in session.all
    session.say("What is it?", "A red car.")
    session.say("/stats", "1 answers of 11 prompt tokens and 3 answer tokens")
    session.say("/system In French.", "[system text set]")
    session.say("And now?", "A red car.")
    session.say("/undo", "[undone]")
    session.say("Again?", "A red car.")
    session.say("/clear", "[cleared]")
    session.say("New?", "A red car.")
    session.say("/undo", "[undone]")
    session.say("/undo", "[nothing to undo]")
    session.say("/nonsense", "error: /nonsense is no command; /help lists them")
    assert session.end() == 0
    first = [("user", "What is it?"), ("assistant", "A red car.")]
    french = ("system", "In French.")
    assert chat_server.questions() == [
        [("system", "Briefly."), first[0]],
        [french, *first, ("user", "And now?")],
        [french, *first, ("user", "Again?")],
        [french, ("user", "New?")],
    ]
    history = tmp_path / "state" / "saccade" / "chat_history"
    assert stat.S_IMODE(history.stat().st_mode) == 0o600
    assert stat.S_IMODE(history.parent.stat().st_mode) == 0o700
    assert history.read_text().splitlines()[:2] == ["What is it?", "/stats"]


def test_an_earlier_line_comes_back_unless_history_is_off(terminal, chat_server, tmp_path):
    session = terminal("--no-history")
    session.say("One?", "A red car.")
    assert session.end() == 0
    assert not (tmp_path / "state").exists()
    session = terminal()
    session.say("Two?", "A red car.")
    assert session.end() == 0
    session = terminal()
    session.say("\x1b[A", "A red car.")  # the key for the line before
    assert session.end() == 0
    assert [turns[-1][1] for turns in chat_server.questions()] == ["One?", "Two?", "Two?"]


def test_files_are_attached(terminal, chat_server, tmp_path):
    spaced = tmp_path / "my photo.jpg"
    spaced.write_bytes(PHOTO.read_bytes())
    session = terminal("--picture", "none", PATH="/nowhere")
    session.say("/image missing.png", "error: missing.png: No such file or directory")
    session.say(f"/image {spaced}", "[image: my photo.jpg, 640 x 427, JPEG")
    session.say(f"/video {CLIP}", "[video: bunny.mp4, MP4 video")
    session.say(f"'{spaced}' ", "[image: my photo.jpg")  # as terminals write what is dragged
    session.say(str(spaced).replace(" ", "\\ "), "[image: my photo.jpg")
    session.say(spaced.as_uri(), "[image: my photo.jpg")
    session.say("/dragged/missing.png", "error: /dragged/missing.png: No such file")
    session.say("/paste", "error: cannot paste: needs wl-paste or xclip, and has neither")
    session.say("/image", "error: write /image PATH|URL")
    session.say("/image 'open", "error: No closing quotation")
    session.say("What are they?", "A red car.")
    session.say(f"/image {PHOTO}", "[image: temple.jpg")
    session.say("/undo", "[undone]")
    session.say("And?", "A red car.")
    assert session.end() == 0
    first, second = chat_server.questions()
    kinds = [part["type"] for part in first[0][1]]
    assert kinds == ["image_url", "video_url", *["image_url"] * 3, "text"]
    assert [content for _, content in second] == [first[0][1], "A red car.", "And?"]


def test_pasting(terminal, chat_server, tmp_path):
    tool = tmp_path / "bin" / "wl-paste"
    tool.parent.mkdir()
    Image.new("RGB", (12, 8), "red").save(tmp_path / "clipboard.png")
    tool.write_text(f"#!/bin/sh\nexec /bin/cat {tmp_path}/clipboard.png\n")
    tool.chmod(0o700)
    session = terminal("--picture", "none", PATH=f"{tool.parent}", WAYLAND_DISPLAY="wayland-0")
    session.say("/paste", "[image: pasted, 12 x 8]")
    session.say("What?", "A red car.")
    tool.write_text("#!/bin/sh\necho Nothing is copied >&2; exit 1\n")
    session.say("/paste", "error: no image in the clipboard")
    assert session.end() == 0
    ((_, (image, _)),) = chat_server.questions()[0]
    assert image["image_url"]["url"].startswith("data:image/png;base64,")


def test_a_conversation_is_saved_and_continued(terminal, chat_server, tmp_path):
    session = terminal("--picture", "none", "--system", "Briefly.")
    session.say(f"/image {PHOTO}", "[image: temple.jpg")
    session.say("What?", "A red car.")
    session.say("/save talk.json", "[saved: talk.json]")
    session.say("/save talk.json", "[saved: talk.json]")
    session.say("/save --no-media bare.json", "[saved: bare.json]")
    (tmp_path / "notes.txt").write_text("mine")
    session.say("/save notes.txt", "error: notes.txt exists; choose another name")
    assert session.end() == 0
    assert (tmp_path / "notes.txt").read_text() == "mine"
    saved = json.loads((tmp_path / "talk.json").read_text())
    answered = {"role": "assistant", "content": "A red car."}
    assert saved == [*chat_server.bodies[0]["messages"], answered]
    bare = json.loads((tmp_path / "bare.json").read_text())
    assert bare[1]["content"][0] == {"type": "text", "text": "[image]"}

    session = terminal()
    for text, said in (
        ("{", "is no JSON"),
        ("3", "holds no list of messages"),
        ('[{"role": "user"}]', "messages[0] has no text as its content"),
        ('[{"role": "pilot", "content": ""}]', "messages[0] has no role of system, user"),
        ('[{"role": "user", "content": "\\ud800"}]', "messages[0] holds half of a surrogate"),
    ):
        (tmp_path / "bad.json").write_text(text)
        session.say("/load bad.json", said)
    session.say("/load talk.json", "[loaded: 2 messages]")
    session.say("And?", "A red car.")
    assert session.end() == 0
    assert chat_server.bodies[1]["messages"] == [*saved, {"role": "user", "content": "And?"}]


def test_an_interrupt_stops_the_answer_and_not_the_session(terminal, chat_server):
    chat_server.behaviour = "hang"
    session = terminal()
    session.type("What?\r")
    session.expect("A red car.")
    session.type("\x03")  # the terminal makes it SIGINT
    session.expect("[stopped]")
    assert chat_server.closed.wait(30)
    session.expect("> ")
    session.wait_for_readline()
    session.type("unfinished")
    session.expect("unfinished")
    session.interrupt_readline()  # at the prompt it drops the line
    session.expect("> ")
    chat_server.behaviour = ""
    session.say("Go on.", "A red car.")
    assert session.process.poll() is None
    assert session.end() == 0
    turns = chat_server.questions()[1]
    assert turns == [("user", "What?"), ("assistant", "A red car."), ("user", "Go on.")]


def test_an_interrupt_before_the_answer_begins_drops_the_question(terminal, chat_server):
    chat_server.behaviour = "wait"
    session = terminal("--picture", "none")
    session.say(f"/image {PHOTO}", "[image: temple.jpg")
    session.type("What?\r")
    assert chat_server.asked.wait(30)
    session.type("\x03")
    session.expect("[stopped]")
    session.expect("> ")
    assert chat_server.closed.wait(30)
    chat_server.behaviour = ""
    session.say("And that?", "A red car.")
    assert session.end() == 0
    ((_, stopped),), ((_, answered),) = chat_server.questions()
    assert stopped[0] == answered[0]  # the image
    assert answered[1]["text"] == "And that?"


def test_stdout_of_a_session_may_be_a_pipe(terminal, chat_server):
    session = terminal(stdout=subprocess.PIPE)
    session.type("What?\r")
    session.expect("> ")
    session.type("/stats\r")
    session.expect("1 answers")
    assert session.end() == 0
    assert session.process.stdout.read() == b"A red car.\n"


def test_what_was_refused_may_be_asked_again(terminal, chat_server):
    chat_server.behaviour = "refuse"
    session = terminal("--picture", "none")
    session.say(f"/image {PHOTO}", "[image: temple.jpg")
    session.say("What?", "error: 400: must be below ·[31m9 (param: messages[0].fps)")
    chat_server.behaviour = ""
    session.say("What else?", "A red car.")
    assert session.end() == 0
    refused, answered = chat_server.questions()
    assert len(refused) == len(answered) == 1
    assert refused[0][1][0] == answered[0][1][0]  # the image


def test_markdown_is_laid_out_and_nothing_raw_reaches_the_terminal(terminal, chat_server):
    chat_server.pieces = (
        "# Cars\n\nA **red**",
        " one\x1b]0;title\x07 \x9b31m &#27;[2J&#x9b;3J \u202e&#x202e;left `x`\n\n",
        "first line\nsecond line\n\n",
        "[here](https://example.com/a)\n",
    )
    session = terminal()
    said = session.say("What?", "example.com/a")
    assert session.end() == 0
    assert "**" not in said
    assert "\x1b[1mred\x1b[0m" in said
    assert "example.com/a\x1b[0m)" in said  # the link says where it leads
    for harmful in ("\x1b]", "\x07", "\x9b", "\x1b[2J", "\x1b[3J", "\u202e", "\x1b[31m"):
        assert harmful not in said
    assert "·]0;title·" in said
    assert "··left" in said
    assert re.search(r"first line *\r\nsecond line *\r\n", said)


def test_plain_text_where_the_terminal_can_only_append(terminal, chat_server):
    chat_server.pieces = ("**red**\x1b[31m\t", "\ud83d\u200d!")
    session = terminal(TERM="dumb")
    assert "**red**·[31m    ·\u200d!" in session.say("What?", "!")
    assert session.end() == 0


def test_json_of_a_session(terminal, chat_server):
    session = terminal("--json")
    line = session.say("What?", '"told"}').splitlines()
    found = [json.loads(each[each.index("{") :]) for each in line if "{" in each]
    assert [each["answer"] for each in found] == ["A red car."]
    assert session.end() == 0


def test_an_attached_image_is_shown(terminal, chat_server):
    session = terminal(COLORTERM="truecolor")
    shown = session.say(f"/image {PHOTO}", "[image: temple.jpg")
    assert shown.count("▀") == 36 * 12  # 640 x 427 within 40 x 24
    assert session.end() == 0
