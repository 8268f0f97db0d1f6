"""The tests. A name is what a user may rely on."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import traceback
from pathlib import Path

import screen
from samovar import HANG_GUARD, Answer, App, Setup, children_of, eventually, memory_mb
from screen import Tray
from webdriver import Browser, DrivenApp

RUNNER = Path(__file__).with_name("run.py")


def the_first_start_shows_progress_and_the_chat_answers(setup: Setup) -> None:
    with DrivenApp(setup, held_at="load_half") as app:
        app.begin(lambda: Tray(app.pid).choose("Open Chat"))
        app.wait_until_listening()
        app.wait_until_held("load_half")
        tray = Tray(app.pid)
        eventually("the tray counts", lambda: 0 < percent(tray.line("○ Loading")) < 100)
        tray.wait_for_icon("starting-2")
        eventually("the window counts", lambda: 0 < percent(app.text_of(".state")) < 100)
        app.release("load_half")
        app.wait_until_ready()
        tray.wait_for(f"● Ready · {setup.model.stem}")
        tray.wait_for(f"127.0.0.1:{app.port}")
        tray.wait_for_icon("ready")
        app.type("textarea", "List the seven days of the week.\ue007")
        assert "Wednesday" in app.wait_for_text("tok/s")
        app.type("textarea", "List the months of the year.\ue007")
        eventually("the second answer says what it reused", lambda: re.search(r"\d+ reused · \d+ new · [\d.]+\stok/s", app.text()))
        tray.choose("Quit Samovar")
        assert app.wait_for_exit() == 0


def an_answer_stops_by_key_and_is_asked_again_by_button(setup: Setup) -> None:
    with driven(setup) as app:
        app.type("textarea", "Tell me a long story about a samovar.\ue007")
        eventually("the answer has begun", lambda: app.text_of(".text"))
        app.type("textarea", "\ue00c")
        app.wait_for_text("stopped · ")
        eventually("nothing runs", lambda: not app.status()["active"])
        app.press("Retry")
        eventually("it runs again", lambda: app.status()["active"])
        eventually("the answer has begun", lambda: app.text_of(".text"))
        app.press("Stop")
        app.wait_for_text("stopped · ")
        app.press("Copy")
        text = app.run("return document.querySelector('.text').textContent").split()
        eventually("the answer is on the clipboard", lambda: text and text[0] in screen.clipboard())
        app.signal()
        assert app.wait_for_exit() == 0


def a_link_in_an_answer_opens_in_the_browser_and_not_in_the_window(setup: Setup) -> None:
    data = setup.data_folder()
    opened = data / "opened"
    browser = data / "bin" / "xdg-open"
    browser.parent.mkdir()
    browser.write_text(f'#!/bin/sh\necho "$1" >>"{opened}"\n')
    browser.chmod(0o700)
    with driven(setup, data=data, path=browser.parent) as app:
        page = app.run("return location.href")
        for target in ("_blank", "_self"):
            app.run(f"""
                const link = Object.assign(document.createElement('a'), {{
                  href: 'https://example.com/{target}', target: '{target}', textContent: '{target}', id: '{target}'}});
                document.querySelector('main').append(link)""")
            app.click(f"#{target}")
        eventually("the browser was asked", opened.exists)
        app.wait_for_text("Ready")
        assert opened.read_text() == "https://example.com/_blank\n"
        assert app.run("return location.href") == page
        app.signal()
        assert app.wait_for_exit() == 0


def the_first_run_opens_the_window_by_itself_until_a_model_has_answered(setup: Setup) -> None:
    data = setup.data_folder()
    (data / "answered").unlink()
    for run in ("the first", "the second, nothing was asked"):
        with started(setup, data=data) as app:
            print(f"  {run}")
            window = screen.wait_for_window(app.pid)
            eventually("the page is drawn", lambda: screen.n_colours(window) > 16)
            if run != "the first":
                assert Answer(app, max_tokens=4).is_complete()
                eventually("the run is the last of the first ones", (data / "answered").exists)
            app.signal()
            assert app.wait_for_exit() == 0
    with started(setup, data=data) as app:
        Tray(app.pid).wait_for("● Ready")
        assert not screen.windows_of(app.pid)
        app.signal()
        assert app.wait_for_exit() == 0


def sixteen_chats_of_one_window_are_all_answered(setup: Setup) -> None:
    with driven(setup) as app:
        for n in range(16):
            app.choose("New Chat")
            app.type("textarea", f"Tell me a long story about samovar number {n}.\ue007")
            eventually(f"answer {n} has begun", lambda: app.text_of(".text"))
        app.choose("New Chat")
        # The engine answers sixteen at a time: one more waits and says so.
        app.type("textarea", "Say hello.\ue007")
        eventually("it is asked", lambda: re.search("Waiting for its turn|tok/s", app.text()))
        for n in (0, 7, 15):
            app.choose("Chats")
            app.run(f"[...document.querySelectorAll('.open')].find((each) => each.textContent.includes('number {n}.')).click()")
            eventually(f"answer {n} is there", lambda: app.text_of(".text"))
            before = app.text_of(".text")
            eventually(f"answer {n} goes on", lambda: len(app.text_of(".text")) > len(before) or "tok/s" in app.text())
        app.quit()


def eight_tabs_of_a_webkit_browser_are_all_answered_and_share_no_chat(setup: Setup) -> None:
    with started(setup) as app, Browser(f"http://127.0.0.1:{app.port}/") as browser:
        browser.wait_for_text("Ready")
        for n in range(8):
            if n > 0:
                browser.open_tab()
            # The first one writes the chat that is open, and another one may only read it.
            if n == 1:
                browser.wait_for_text("This chat is open in another tab, where it can be written.")
            browser.choose("New Chat")
            browser.type("textarea", f"Tell me a long story about samovar number {n}.\ue007")
        for n in range(8):
            browser.go_to(n)
            eventually(f"answer {n} has begun", lambda: browser.text_of(".text"))
            assert f"number {n}." in browser.text_of(".question")
            before = browser.text_of(".text")
            eventually(f"answer {n} goes on", lambda: len(browser.text_of(".text")) > len(before) or "tok/s" in browser.text())
        browser.choose("Quit Samovar")
        browser.wait_for_text("The server ends for every program that uses it")
        browser.press("Keep Running")
        assert app.status()["state"] == "ready"
        app.quit()


def an_input_method_composes_in_peace_and_find_takes_the_keys(setup: Setup) -> None:
    with driven(setup) as app:
        window = screen.wait_for_window(app.pid)
        app.run("""
            window.seen = [];
            for (const name of ['keydown', 'compositionstart', 'compositionend'])
              addEventListener(name, (event) => seen.push([name, event.key ?? '', event.isComposing ?? false, event.keyCode ?? 0]), true)""")
        app.click("textarea")
        # GTK's own input method: Ctrl-Shift-U, a character's number, and Enter, which ends the composition.
        for number, character in (("8336", "茶"), ("4e2d", "中"), ("e9", "é"), ("d558", "하"), ("442", "т")):
            screen.press(window, "ctrl+shift+u")
            screen.write(window, number)
            screen.press(window, "Return")
            eventually(f"{character} is in the message", lambda: app.run("return document.querySelector('textarea').value") == character)
            assert not app.run("return document.querySelectorAll('li').length"), app.run("return seen")
            app.run("const field = document.querySelector('textarea'); field.value = ''; field.dispatchEvent(new Event('input'))")
        assert app.run("return seen.some(([name]) => name === 'compositionstart')"), app.run("return seen")
        # What WebKit tells on a Mac of the key that has just ended a composition.
        app.type("textarea", "half")
        told = """
            const event = new KeyboardEvent('keydown', {key: arguments[0], keyCode: 229, bubbles: true, cancelable: true});
            document.querySelector('textarea').dispatchEvent(event); return event.keyCode"""
        assert app.run(told.replace("arguments[0]", "'Enter'")) == 229
        assert not app.run("return document.querySelectorAll('li').length")
        screen.press(window, "ctrl+f")
        eventually("the keys go there", lambda: "Find" in app.run("return document.activeElement.getAttribute('aria-label') ?? ''"))
        screen.write(window, "tea")
        screen.press(window, "Return")
        assert app.run("return document.querySelector('.find input').value") == "tea"
        assert app.run("return document.querySelector('textarea').value") == "half"
        screen.press(window, "Escape")
        eventually("the keys are back", lambda: app.run("return document.activeElement.localName") == "textarea")
        app.type("textarea", "\ue009a\ue000Tell me a long story about a samovar.\ue007")
        eventually("the answer has begun", lambda: app.text_of(".text"))
        app.run(told.replace("arguments[0]", "'Escape'"))
        assert "stopped" not in app.text()
        # A composition that is given up is no wish to stop the answer.
        app.run("seen.length = 0")
        screen.press(window, "ctrl+shift+u")
        screen.write(window, "83")
        screen.press(window, "Escape")
        eventually("the composition has ended", lambda: app.run("return seen.some(([name]) => name === 'compositionend')"))
        assert "stopped" not in app.text(), app.run("return seen")
        app.press("Stop")
        app.wait_for_text("stopped · ")
        # The button is gone that had the focus.
        eventually("the keys go somewhere", lambda: app.run("return document.activeElement !== document.body"))
        app.signal()
        assert app.wait_for_exit() == 0


def the_window_zooms_by_key_and_everything_stays_in_reach(setup: Setup) -> None:
    data = setup.data_folder()
    with driven(setup, data=data) as app:
        window = screen.wait_for_window(app.pid)
        whole = app.run("return innerWidth")
        app.click("textarea")
        for _ in range(5):
            screen.press(window, "ctrl+plus")
        eventually("it is twice as large", lambda: abs(app.run("return innerWidth") - whole / 2) <= 1)
        app.type("textarea", "Tell me a long story about a samovar.")
        assert in_reach(app, "Menu")
        click_in_reach(app, window, "Send")
        eventually("the answer has begun", lambda: app.text_of(".text"))
        assert in_reach(app, "Stop") and in_reach(app, "Menu")
        # The smallest that the window can be.
        screen.resize(window, 320, 400)
        eventually("it is small", lambda: app.run("return [innerWidth, innerHeight]") == [160, 200])
        assert in_reach(app, "Menu")
        click_in_reach(app, window, "Stop")
        app.wait_for_text("stopped")
        app.type("textarea", "Another long story, which is told in more words than one line has room for.")
        assert in_reach(app, "Send") and in_reach(app, "Menu")
        screen.resize(window, whole, 600)
        eventually("it is large", lambda: abs(app.run("return innerWidth") - whole / 2) <= 1)
        screen.press(window, "ctrl+minus")
        eventually("a step less", lambda: abs(app.run("return innerWidth") - whole / 1.75) <= 1)
        app.signal()
        assert app.wait_for_exit() == 0
    with driven(setup, data=data) as app:
        eventually("it is as large as it was", lambda: abs(app.run("return innerWidth") - whole / 1.75) <= 1)
        window = screen.wait_for_window(app.pid)
        app.click("textarea")
        screen.press(window, "ctrl+0")
        eventually("it is itself again", lambda: app.run("return innerWidth") == whole)
        app.signal()
        assert app.wait_for_exit() == 0


def what_is_dropped_on_the_window_leaves_the_page_there(setup: Setup) -> None:
    with driven(setup) as app:
        page = app.run("return location.href")
        for target in ("main", "header", "textarea", "footer"):
            refused = app.run(f"""
                const data = new DataTransfer();
                data.items.add(new File(['hello'], 'notes.txt', {{type: 'text/plain'}}));
                const say = (type) => !document.querySelector('{target}').dispatchEvent(
                  new DragEvent(type, {{dataTransfer: data, bubbles: true, cancelable: true}}));
                return [say('dragover'), say('drop')]""")
            assert refused == [True, True], (target, refused)
        app.wait_for_text("Files cannot be attached.")
        assert app.run("return location.href") == page
        app.signal()
        assert app.wait_for_exit() == 0


def quitting_during_an_answer_completes_it_and_exits_with_0(setup: Setup) -> None:
    with started(setup) as app:
        tray, answer = Tray(app.pid), held_answer(app)
        tray.wait_for_icon("busy-1", "busy-2")
        tray.choose("Quit Samovar")
        tray.wait_for("Finishing 1 request")
        tray.wait_for("◐ Finishing")
        tray.wait_for_icon("draining")
        refused, error = app.request("POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}]})
        assert refused == 503, error
        app.release("step")
        assert answer.is_complete(), answer.events[-3:]
        assert app.wait_for_exit() == 0


def cancel_quit_takes_requests_again(setup: Setup) -> None:
    with started(setup) as app:
        tray, answer = Tray(app.pid), held_answer(app)
        tray.choose("Quit Samovar")
        tray.choose("Cancel Quit")
        tray.wait_for("● Answering")
        tray.wait_for("Quit Samovar")
        app.release("step")
        assert answer.is_complete(), answer.events[-3:]
        assert Answer(app, max_tokens=4).is_complete()
        app.signal()
        assert app.wait_for_exit() == 0


def the_window_shows_a_quit_and_takes_it_back_or_hurries_it(setup: Setup) -> None:
    with driven(setup) as app:
        answer = held_answer(app)
        app.press("Menu")
        app.press("Quit Samovar")
        app.wait_for_text("Finishing 1 request")
        assert app.run("return document.querySelector('textarea').disabled")
        app.press("Cancel Quit")
        app.wait_for_text("Answering")
        assert not answer.has_ended.is_set()
        app.press("Menu")
        app.press("Quit Samovar")
        app.press("Quit Now")
        assert any("interrupted" in event for event in answer.wait())
        assert app.wait_for_exit() == 3


def quit_now_ends_streams_with_an_error_and_exits_with_3(setup: Setup) -> None:
    with started(setup) as app:
        tray, answer = Tray(app.pid), held_answer(app)
        tray.choose("Quit Samovar")
        tray.choose("Quit Now")
        events = answer.wait()
        assert any("interrupted" in event for event in events), events[-3:]
        assert app.wait_for_exit() == 3


def a_second_signal_ends_a_drain_at_once(setup: Setup) -> None:
    with started(setup) as app:
        answer = held_answer(app)
        app.signal()
        Tray(app.pid).wait_for("Finishing 1 request")
        app.signal()
        assert any("interrupted" in event for event in answer.wait())
        assert app.wait_for_exit() == 3


def an_idle_app_quits_at_once_by_menu_and_by_signal(setup: Setup) -> None:
    with started(setup) as app:
        Tray(app.pid).choose("Quit Samovar")
        assert app.wait_for_exit() == 0
    for number in (signal.SIGTERM, signal.SIGINT):
        with started(setup) as app:
            app.signal(number)
            assert app.wait_for_exit() == 0


def a_second_launch_shows_the_window_of_the_first(setup: Setup) -> None:
    with started(setup) as app:
        assert not screen.windows_of(app.pid)
        second = subprocess.run([setup.binary], env=app.environment, capture_output=True, timeout=180)
        assert second.returncode == 0, second.stderr
        window = screen.wait_for_window(app.pid)
        eventually("it opens in the top right corner", lambda: all(0 <= far <= 8 for far in screen.distance_to_the_corner(window)))
        assert app.get("/health/ready")[0] == 200
        # Another data folder is another app.
        with started(setup) as other:
            assert other.port != app.port and app.get("/health/ready")[0] == 200
            other.signal()
            assert other.wait_for_exit() == 0
        app.signal()
        assert app.wait_for_exit() == 0


def a_closed_window_takes_its_processes_with_it_and_opens_again(setup: Setup) -> None:
    with started(setup) as app:
        tray = Tray(app.pid)
        print(f"  before: {memory(app)}")
        draft = ""
        for turn in ("first", "second", "third"):
            tray.choose("Open Chat")
            window = screen.wait_for_window(app.pid)
            eventually("the page is drawn", lambda: screen.n_colours(window) > 16)
            assert web_processes(app), "no process of the web view was found"
            # What was written before is there again, and more is written.
            eventually("the draft is back", lambda: screen.text_in(window) == draft)
            screen.press(window, "End")
            screen.write(window, f"{turn} ")
            draft += f"{turn} "
            eventually("the draft is written", lambda: screen.text_in(window) == draft)
            print(f"  {turn} window: {memory(app)}")
            screen.close(window)
            screen.wait_for_no_window(app.pid)
            eventually("the web view's processes are gone", lambda: not web_processes(app))
            print(f"  closed: {memory(app)}")
        assert app.get("/health/ready")[0] == 200
        app.signal()
        assert app.wait_for_exit() == 0


def a_taken_port_names_its_holder_and_offers_ways_out(setup: Setup) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with App(setup, port=port) as app:
            tray = Tray(app.pid)
            said = tray.wait_for(f"Port {port} is in use by python3")
            assert str(os.getpid()) in said, said
            screen.wait_for_window(app.pid)
            tray.choose("Retry")
            tray.wait_for(f"Port {port} is in use")
            tray.choose("Use Another Port")
            assert app.wait_until_listening() != port
            app.wait_until_ready()
            tray.choose("Quit Samovar")
            assert app.wait_for_exit() == 0
        with DrivenApp(setup, port=port) as app:
            app.begin()
            assert str(os.getpid()) in app.wait_for_text(f"Port {port} is in use by python3")
            app.press("Use Another Port")
            assert app.wait_until_listening() != port
            app.wait_for_text("Ready")
            app.signal()
            assert app.wait_for_exit() == 0
        with App(setup, port=port) as app:
            tray = Tray(app.pid)
            tray.wait_for(f"Port {port} is in use")
            holder.close()
            tray.choose("Retry")
            assert app.wait_until_listening() == port
            app.wait_until_ready()
            app.signal()
            assert app.wait_for_exit() == 0


def a_failed_load_stays_up_with_its_cause_until_it_is_mended(setup: Setup) -> None:
    data = setup.data_folder()
    model = data / "model.gguf"
    model.write_bytes(b"no model at all")
    with DrivenApp(setup, data=data, model=model) as app:
        app.begin()
        app.wait_until_listening()
        tray = Tray(app.pid)
        tray.wait_for("× Failed")
        tray.wait_for_icon("failed")
        # In the window and in the menu.
        app.wait_for_text("The model’s file is damaged or no GGUF file.")
        tray.wait_for("The model’s file is damaged or no GGUF file.")
        status = app.status()
        assert status["state"] == "failed" and str(model) in status["cause"], status
        model.unlink()
        tray.choose("Retry")
        app.wait_for_text("The model’s file is not there.")
        tray.wait_for("× Failed")
        model.symlink_to(setup.model)
        app.press("Retry")
        app.wait_until_ready()
        tray.wait_for("● Ready")
        app.wait_for_text("Ready")
        tray.choose("Quit Samovar")
        assert app.wait_for_exit() == 0


def copy_address_puts_the_address_on_the_clipboard(setup: Setup) -> None:
    with started(setup) as app:
        Tray(app.pid).choose("Copy Address")
        want = f"http://127.0.0.1:{app.port}"
        eventually("the address is on the clipboard", lambda: screen.clipboard() == want)
        app.signal()
        assert app.wait_for_exit() == 0


def without_a_tray_host_the_window_opens_and_ctrl_q_quits(setup: Setup) -> None:
    with App(setup) as app:
        app.wait_until_ready()
        window = screen.wait_for_window(app.pid)
        eventually("the page is drawn", lambda: screen.n_colours(window) > 16)
        answer = held_answer(app)
        screen.press(window, "ctrl+q")
        eventually("it drains", lambda: app.status()["state"] == "draining")
        app.release("step")
        assert answer.is_complete()
        assert app.wait_for_exit() == 0


def a_stopped_test_run_leaves_no_process_and_no_file(setup: Setup) -> None:
    """Of these tests themselves: whoever stops them keeps a clean machine."""
    for number in (signal.SIGTERM, signal.SIGINT):
        outer = setup.data_folder()
        before = os.listdir(outer)
        command = [sys.executable, RUNNER, "--bin", setup.binary, "--model", setup.model, cancel_quit_takes_requests_again.__name__]
        with open(outer / "said", "wb") as said:
            run = subprocess.Popen(command, env={**os.environ, "TMPDIR": str(outer)}, stdout=said, stderr=said)
        try:
            eventually("its app runs", lambda: setup.binary.name in children_of(run.pid).values())
            below = [Path(f"/proc/{pid}") for pid in children_of(run.pid)]
            run.send_signal(number)
            assert run.wait(HANG_GUARD) == 128 + number
        finally:
            run.kill()
            run.wait()
        left = [path.name for path in below if path.exists()]
        assert not left, f"left over after {number.name}: {left}"
        assert sorted(os.listdir(outer)) == sorted([*before, "said"]), os.listdir(outer)


def started(setup: Setup, **settings) -> App:
    """Ready, in a `with`."""

    class Ready(App):
        def __enter__(self):
            super().__enter__()
            try:
                self.wait_until_ready()
            except BaseException:
                self.__exit__(*sys.exc_info())
                raise
            return self

    return Ready(setup, **settings)


def driven(setup: Setup, **settings) -> DrivenApp:
    """Ready, with a driver at its window, in a `with`."""

    class Ready(DrivenApp):
        def __enter__(self):
            super().__enter__()
            try:
                self.begin(lambda: Tray(self.pid).choose("Open Chat"))
                self.wait_until_ready()
                self.wait_for_text("Ready")
            except BaseException:
                self.__exit__(*sys.exc_info())
                raise
            return self

    return Ready(setup, **settings)


def held_answer(app: App) -> Answer:
    """An answer that has begun and stands still until the test releases `step`."""
    answer = Answer(app)
    answer.wait_until_it_writes()
    app.hold("step")
    app.wait_until_held("step")
    return answer


def click_in_reach(app: DrivenApp, window: str, name: str) -> None:
    """With the mouse, because a driver knows nothing of the window's zoom and would click beside it."""
    assert in_reach(app, name), name
    screen.click(window, *app.run(f"""
        const {{left, top, right, bottom}} = {button_of(name)}.getBoundingClientRect();
        const zoom = {screen.width_of(window)} / innerWidth;
        return [(left + right) / 2 * zoom, (top + bottom) / 2 * zoom]"""))


def button_of(name: str) -> str:
    """The script for it."""
    return f"[...document.querySelectorAll('button')].find((each) => (each.ariaLabel ?? each.textContent.trim()) === '{name}')"


def in_reach(app: DrivenApp, name: str) -> bool:
    """Whether all of that button is in the window and nothing lies over it."""
    return app.run(f"""
        const button = {button_of(name)};
        const {{left, top, right, bottom}} = button.getBoundingClientRect();
        const onTop = document.elementFromPoint((left + right) / 2, (top + bottom) / 2);
        return left >= 0 && top >= 0 && right <= innerWidth && bottom <= innerHeight && button.contains(onTop)""")


def web_processes(app: App) -> dict[int, str]:
    return {pid: name for pid, name in children_of(app.pid).items() if name.startswith("WebKit") or name == "bwrap"}


def memory(app: App) -> str:
    """Resident sizes, and in brackets how much of them is in no file."""
    names = {app.pid: "app", **web_processes(app)}
    return ", ".join(f"{name} {memory_mb(pid, 'Rss'):.0f} MB ({memory_mb(pid, 'Pss_Anon'):.0f})" for pid, name in names.items())


def percent(text: str) -> int:
    """The first percentage in a text; 0 where there is none."""
    found = re.search(r"(\d+).%", text)
    return int(found.group(1)) if found else 0


# Before there is a tray host, and with one.
WITHOUT_TRAY = [a_stopped_test_run_leaves_no_process_and_no_file, without_a_tray_host_the_window_opens_and_ctrl_q_quits]
WITH_TRAY = [
    the_first_start_shows_progress_and_the_chat_answers,
    an_answer_stops_by_key_and_is_asked_again_by_button,
    a_link_in_an_answer_opens_in_the_browser_and_not_in_the_window,
    the_first_run_opens_the_window_by_itself_until_a_model_has_answered,
    sixteen_chats_of_one_window_are_all_answered,
    eight_tabs_of_a_webkit_browser_are_all_answered_and_share_no_chat,
    an_input_method_composes_in_peace_and_find_takes_the_keys,
    the_window_zooms_by_key_and_everything_stays_in_reach,
    what_is_dropped_on_the_window_leaves_the_page_there,
    quitting_during_an_answer_completes_it_and_exits_with_0,
    cancel_quit_takes_requests_again,
    the_window_shows_a_quit_and_takes_it_back_or_hurries_it,
    quit_now_ends_streams_with_an_error_and_exits_with_3,
    a_second_signal_ends_a_drain_at_once,
    an_idle_app_quits_at_once_by_menu_and_by_signal,
    a_second_launch_shows_the_window_of_the_first,
    a_closed_window_takes_its_processes_with_it_and_opens_again,
    a_taken_port_names_its_holder_and_offers_ways_out,
    a_failed_load_stays_up_with_its_cause_until_it_is_mended,
    copy_address_puts_the_address_on_the_clipboard,
]


def run(setup: Setup, names: list[str]) -> int:
    """All, or those whose name has one of `names` in it; the exit code."""
    failed = []

    def attempt(scenes) -> None:
        for scene in scenes:
            if names and not any(name in scene.__name__ for name in names):
                continue
            start = time.monotonic()
            print(f"desktop: {scene.__name__} …", flush=True)
            try:
                scene(setup)
                print(f"  ok ({time.monotonic() - start:.1f} s)", flush=True)
            except Exception:
                traceback.print_exc(file=sys.stdout)
                print("  FAILED", flush=True)
                failed.append(scene.__name__)

    with screen.window_manager():
        attempt(WITHOUT_TRAY)
        with screen.tray_host():
            attempt(WITH_TRAY)
    print(f"desktop: failed: {', '.join(failed)}" if failed else "desktop: all passed", flush=True)
    return 1 if failed else 0
