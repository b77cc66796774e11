"""Probabilities of frames to sequences: the likeliest chords or keys, beats, and bars.

Shapes: T frames, N beats, C classes.
"""

import numpy as np

FRAMES_PER_FRAME = 2  # of beats: finer than the frames, so that tempi lie close together
BLOCK_FRAMES = 1024  # whose scores of intervals are computed at a time
# How much the probability of a beat, a change of the interval (per relative change) and the tempo count beside the
# probability of no beat; and how many frames around a beat are part of it. Chosen on validation pieces.
BEAT_WEIGHT, TEMPO_CHANGE, TEMPO_WEIGHT, BEAT_FRAMES = 0.3, 50.0, 0.3, 2.0
METRES = (2, 3, 4, 5, 6)
METRE_CHANGE = 1e-3  # probability of another metre in the next bar
FLOOR = 1e-4  # of a probability


def likeliest_sequence(scores: np.ndarray, change: float) -> np.ndarray:
    """Find the likeliest sequence of classes in which all changes are alike: Viterbi's algorithm.

    Args:
        scores: log probabilities, (T, C).
        change: log of how likely a change to one other class is against none, from frame to frame.

    Returns:
        Classes, (T,).
    """
    best = scores[0].astype(np.float64)
    origin = np.zeros(scores.shape, np.int16)
    stay = np.arange(scores.shape[1])
    for step in range(1, len(scores)):
        other = int(best.argmax())
        stays = best >= best[other] + change
        origin[step] = np.where(stays, stay, other)
        best = np.where(stays, best, best[other] + change) + scores[step]
    classes = np.zeros(len(scores), int)
    classes[-1] = best.argmax()
    for step in range(len(scores) - 1, 0, -1):
        classes[step - 1] = origin[step, classes[step]]
    return classes


def runs(classes: np.ndarray) -> list[tuple[int, int]]:
    """Return the first frame of every run of one class, and the frame behind its last."""
    firsts = [0, *(int(place) + 1 for place in np.flatnonzero(np.diff(classes)))]
    return list(zip(firsts, [*firsts[1:], len(classes)], strict=True))


def find_beats(
    probabilities: np.ndarray, frame_rate: float, tempi: np.ndarray, tempo_scores: np.ndarray
) -> np.ndarray:
    """Find the likeliest sequence of beats whose tempo hardly changes from one to the next.

    Args:
        probabilities: of a beat, (T,).
        frame_rate: frames per second.
        tempi: beats per minute of the classes of tempo, ascending, (C,).
        tempo_scores: log probabilities of the tempo, (T, C).

    Returns:
        Times in seconds, (N,), at the peaks of a parabola through the highest frames.

    Source: after the bar pointer model of Krebs, Boeck & Widmer 2015 (ISMIR): Viterbi's algorithm over beats and the
    intervals that follow them instead of over frames and positions, with a tempo that is known better than its prior.
    """
    if len(probabilities) < 3:
        return np.zeros(0)
    probabilities = np.clip(probabilities.astype(np.float64), FLOOR, 1 - FLOOR)
    logits = np.log(probabilities / (1 - probabilities))
    places = np.arange((len(logits) - 1) * FRAMES_PER_FRAME + 1) / FRAMES_PER_FRAME
    fine = 1 / (1 + np.exp(-np.interp(places, np.arange(len(logits)), logits)))
    rate = frame_rate * FRAMES_PER_FRAME
    shortest, longest = rate * 60 / tempi[-1], rate * 60 / tempi[0]
    intervals = np.arange(round(shortest), round(longest) + 1)
    weights = TEMPO_WEIGHT * _interpolation(np.log(tempi), np.log(60 * rate / intervals))
    beat, none = BEAT_WEIGHT * np.log(fine), np.log(1 - fine) / FRAMES_PER_FRAME
    ends = _likeliest_beats(beat, none, intervals, (tempo_scores, weights.astype(np.float32)))
    return np.array([_peak(logits, place / FRAMES_PER_FRAME) for place in ends]) / frame_rate


def _interpolation(places: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return a matrix (C, W) that interpolates what is known at ascending places (C,) to others (W,)."""
    right = np.clip(np.searchsorted(places, wanted), 1, len(places) - 1)
    part = np.clip((wanted - places[right - 1]) / (places[right] - places[right - 1]), 0.0, 1.0)
    matrix = np.zeros((len(places), len(wanted)))
    every = np.arange(len(wanted))
    matrix[right - 1, every], matrix[right, every] = 1 - part, part
    return matrix


def _likeliest_beats(
    beat: np.ndarray, none: np.ndarray, intervals: np.ndarray, tempo: tuple[np.ndarray, np.ndarray]
) -> list[int]:
    """Choose beats; what is kept of a long song is one byte for every fine frame and interval.

    Args:
        beat, none: scores of a beat and of none at every fine frame, (F,).
        intervals: that may lie between beats, ascending, in fine frames, (I,).
        tempo: scores of tempi in every frame, (T, C), and the weights that make scores of intervals of them, (C, I):
            of the interval that follows a beat at that frame.

    Returns:
        Fine frames of the beats.
    """
    change = -TEMPO_CHANGE * abs(intervals[:, None] / intervals[None] - 1)  # to one interval (rows) from another
    change -= np.log(np.exp(change).sum(0, keepdims=True))
    silence = np.concatenate([[0.0], none.cumsum()])  # score of no beat in all frames before
    around = round(BEAT_FRAMES * FRAMES_PER_FRAME)  # frames on either side that a beat may make likely
    every, longest = np.arange(len(intervals)), int(intervals[-1])
    # Of all sequences whose last beat is at a frame, by the interval that follows it: the best score, of the last
    # frames only, and the interval before that beat in it.
    score = np.full((longest, len(intervals)), -np.inf)
    before = np.zeros((len(beat), len(intervals)), np.int8)
    routes = np.empty(change.shape)
    start = -np.log(intervals)
    following = np.zeros((0, len(intervals)))
    for frame in range(len(beat)):
        place = frame // FRAMES_PER_FRAME
        if frame % (FRAMES_PER_FRAME * BLOCK_FRAMES) == 0:
            following = tempo[0][place : place + BLOCK_FRAMES] @ tempo[1]
        last = frame - intervals
        until = silence[max(0, frame - around)]
        since = np.minimum(0.0, until - silence[np.minimum(np.maximum(last + around + 1, 0), len(beat))])
        ending = score[last % longest, every] + since
        if last[-1] < 0:  # there may be no beat before
            ending = np.where(last >= 0, ending, until + start)
        ending += beat[frame]
        np.add(change, ending, out=routes)
        best = before[frame] = routes.argmax(1)
        score[frame % longest] = routes[every, best] + following[place % BLOCK_FRAMES]
    # The last beat is one whose interval the song ends in.
    frames = np.arange(max(0, len(beat) - longest), len(beat))
    behind = silence[-1] - silence[np.minimum(frames + around + 1, len(beat))]
    final = score[frames % longest] + np.minimum(0.0, behind)[:, None]
    final[(len(beat) - frames)[:, None] > intervals] = -np.inf
    row, interval = np.unravel_index(int(final.argmax()), final.shape)
    frame = int(frames[row])
    beats = []
    while frame >= 0 and np.isfinite(final).any():
        beats.append(frame)
        interval = before[frame, interval]
        frame -= int(intervals[interval])
    return beats[::-1]


def _peak(logits: np.ndarray, place: float) -> float:
    """Return where a parabola through the highest frame near a place has its top, in frames."""
    nearest = int(np.clip(round(place), 1, len(logits) - 2))
    low, high = max(1, nearest - 1), min(len(logits) - 2, nearest + 1)
    top = low + int(logits[low : high + 1].argmax())
    left, centre, right = logits[top - 1 : top + 2]
    curvature = left - 2 * centre + right
    return top + (float(np.clip(0.5 * (left - right) / curvature, -0.5, 0.5)) if curvature < 0 else 0.0)


def find_bars(probabilities: np.ndarray, times: np.ndarray, frame_rate: float) -> np.ndarray:
    """Count the beats of every bar: the likeliest sequence of bars whose metre hardly changes.

    Args:
        probabilities: of a downbeat, (T,).
        times: of the beats in seconds, (N,).
        frame_rate: frames per second.

    Returns:
        Positions in the bar, (N,); 1 is a downbeat.

    Source: as Boeck, Krebs & Widmer 2016 (ISMIR), over beats that are known.
    """
    if not len(times):
        return np.zeros(0, int)
    frames = np.clip((times * frame_rate).round().astype(int), 0, len(probabilities) - 1)
    around = np.clip(frames[:, None] + np.array([-1, 0, 1]), 0, len(probabilities) - 1)
    downbeat = np.clip(probabilities[around].max(1).astype(np.float64), 1e-3, 1 - 1e-3)
    states = [(metre, place) for metre in METRES for place in range(metre)]
    first = np.array([states.index((metre, 0)) for metre in METRES])
    last = np.array([states.index((metre, metre - 1)) for metre in METRES])
    starts = np.array([place == 0 for _, place in states])
    scores = np.where(starts, np.log(downbeat)[:, None], np.log(1 - downbeat)[:, None])
    switch = np.full((len(METRES), len(METRES)), np.log(METRE_CHANGE))
    np.fill_diagonal(switch, 0.0)
    best = scores[0] - np.log([metre for metre, _ in states])
    origin = np.zeros(scores.shape, np.int16)
    for beat in range(1, len(times)):
        origin[beat] = np.arange(-1, len(states) - 1)  # the place before in the same bar
        routes = best[last][:, None] + switch
        origin[beat, first] = last[routes.argmax(0)]
        reached = best[origin[beat]]
        reached[first] = routes.max(0)
        best = reached + scores[beat]
    state, positions = int(best.argmax()), []
    for beat in range(len(times) - 1, -1, -1):
        positions.append(states[state][1] + 1)
        state = int(origin[beat, state])
    return np.array(positions[::-1])
