"""All findings about a background: the main question first, then possible causes."""

from sparsemed.quality import cells, change, lamp, light, noise, question
from sparsemed.quality.finding import Finding
from sparsemed.quality.view import View


def findings_of(view: View) -> tuple[Finding, ...]:
    """Return all findings about a background; see `sparsemed.quality.assess`."""
    background = view.background
    judged = change.enough(view)
    plain = [light.unwritten(background), change.order(background), light.saturation(background)]
    if change.shows_nothing(view):
        return _found(*plain, judged)
    # In the order of causes: each may cause those that follow. These refer to the first one found,
    # so that there is only one advice.
    causes: list[Finding | None] = [lamp.flicker(view), cells.crowd(view), change.grain(view)]
    looks = [cells.streaks, change.change]
    if not question.is_clean(view) or not view.is_sampled:
        causes.insert(2, change.shake(view))
        looks = [lamp.channel, cells.streaks, change.change, noise.noise]
    for look in looks:
        causes.append(look(view, _see(causes)))
    left = question.what_is_left(view, _see(causes))
    return _found(left, *plain, *causes, cells.dropped(view), lamp.drift(view), judged)


def _found(*findings: Finding | None) -> tuple[Finding, ...]:
    return tuple(finding for finding in findings if finding is not None)


def _see(findings: list[Finding | None]) -> str:
    """Refer to the first finding that is not good, if there is one."""
    for each in findings:
        if each is not None and not each.is_good and each.key in _CAUSES:
            return f"See “{each.title}”."
    return ""


_CAUSES = {"crowd", "shake", "grain", "channel", "streaks", "change"}
