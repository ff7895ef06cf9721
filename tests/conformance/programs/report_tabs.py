"""A report has tabs; names are escaped, what was logged stands there as it is."""

import millstream

env = millstream.TaskEnvironment("report_tabs")


@env.task(report=True)
async def writes() -> list[bool]:
    await millstream.report.log.aio("<h1>first</h1>", do_flush=True)
    millstream.report.get_tab("a <b>").log("<i>one</i>")
    millstream.report.get_tab("a <b>").replace("<i>two</i>")
    millstream.report.log("<p>last</p>")
    await millstream.report.flush.aio()
    report = millstream.report.current_report()
    page = report.get_final_report()
    here = millstream.ctx().report is report
    parts = ("<h1>first</h1>", "<p>last</p>", "a &lt;b&gt;", "<i>two</i>")
    return [here, *(part in page for part in parts), "<i>one</i>" in page]


@env.task(report=True)
def writes_in_a_thread() -> list[str]:
    millstream.report.replace("<p>x</p>", do_flush=True)
    millstream.report.flush()
    return [tab.get_html() for tab in millstream.report.current_report().tabs.values()]


@env.task
async def main() -> list[object]:
    outside = millstream.report.Report("r")
    return [await writes(), await writes_in_a_thread.aio(), outside.has_content()]


EXPECT = [[True, True, True, True, True, False], ["<p>x</p>"], False]
