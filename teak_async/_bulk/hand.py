"""The rows in hand: read from the input, and their outcomes not taken by the reader of the run yet. Pure.

One task sends a player's rows one after the other. A player is of the bucket of its next row. Two bounds hold for each bucket,
so that one that pauses does not stop the others:

- Players, since each may have a connection of its own; and fewer players that have no permit yet, since they may wait long.
  Where these have to wait for an intent in the journal, few of them ask for one.
- Rows: at most `MOST_ROWS`. So many are read of a file sorted by player, so that enough players are in hand.
"""

from __future__ import annotations

from collections import deque
from math import ceil

from attrs import define, field

from teak_async._limits.bucket import GRANTS_A_TURN
from teak_async._limits.session_limits import Limits

from .row_call import MAX_INTENTS, InvalidRow, RowCall

MOST_PLAYERS = 500
"""Players of one bucket in hand at most, whatever the limit: systems allow a process about a thousand connections."""
MOST_UNPERMITTED = 100
"""Players of one bucket in hand at most who wait for their first permit; at most limits half a second's worth."""
MOST_ASKING = MAX_INTENTS + GRANTS_A_TURN
"""Players of one bucket at most who ask for their first permit of a run with a journal: some more than may have an intent."""
MOST_ROWS = 5_000
"""Rows of one bucket in hand at most."""


@define
class Player:
    """A player, or an address, of rows in hand.

    Attributes:
        name: what its rows are about.
        queue: rows that have not begun.
        rows: in hand, begun and ended ones too.
        bucket: of the row that is sent, or was last; `None` while it waits for room.
        running: whether a task sends the rows.
        permitted: whether a row has had a permit of the bucket.
    """

    name: str
    queue: list[RowCall] = field(factory=list)  # mostly of one row; an empty deque takes 700 bytes
    rows: int = 0
    bucket: _Bucket | None = None
    running: bool = False
    permitted: bool = False


@define
class _Bucket:
    """The rows in hand for one bucket.

    Attributes:
        most_players: players that may be in hand.
        most_unpermitted: of these, players without a permit.
        most_asking: of these, players that ask for one.
        players: that ask for a permit, or have one.
        unpermitted: of these, without a permit.
        rows: in hand; those of waiting players, too.
        waiting: players whose next row is for this bucket, and for whom there is no room among those that ask.
    """

    most_players: int
    most_unpermitted: int
    most_asking: int
    players: int = 0
    unpermitted: int = 0
    rows: int = 0
    waiting: deque[Player] = field(factory=deque)

    @property
    def has_room(self) -> bool:
        """Whether another player may be in hand."""
        waiting = len(self.waiting)
        return self.players + waiting < self.most_players and self.unpermitted + waiting < self.most_unpermitted

    @property
    def may_ask(self) -> bool:
        """Whether another player may ask for its first permit."""
        return self.players < self.most_players and self.unpermitted < self.most_asking


class Hand:
    """Decides whether a row may be read, and which players' rows may be sent.

    Args:
        limits: requests per second.
        journal: whether the rows wait for intents in a journal.
    """

    def __init__(self, limits: Limits, *, journal: bool = False) -> None:
        self._limits = limits
        self._journal = journal
        self._buckets: dict[str, _Bucket] = {}
        self._players: dict[str, Player] = {}
        self._ended = 0

    @property
    def has_room(self) -> bool:
        """Whether another row may be read."""
        if self._ended >= MOST_PLAYERS:
            return False
        room = not self._buckets
        for bucket in self._buckets.values():  # a loop by hand, since this is asked for each row
            if bucket.rows >= MOST_ROWS:
                return False
            room = room or bucket.has_room
        return room

    def add(self, row: RowCall) -> Player | None:
        """Take a row in hand, behind the others of its player; return the player if its rows may be sent from now on."""
        name = row.call.request.subject
        self._bucket_of(row).rows += 1
        player = self._players.get(name)
        if player is None:
            player = self._players[name] = Player(name)
        row.player = player
        player.queue.append(row)
        player.rows += 1
        waits = len(player.queue) > 1
        return None if player.running or waits or not self.go_on(player) else player

    def go_on(self, player: Player) -> bool:
        """Say whether the next row of a player may be sent; if not, it waits for room in that row's bucket."""
        bucket = self._bucket_of(player.queue[0])
        if player.bucket is not bucket:
            self._leave_bucket(player)
            if not bucket.may_ask:
                player.running = False
                bucket.waiting.append(player)
                return False
            self._enter_bucket(player, bucket)
        player.running = True
        return True

    def add_ended(self) -> None:
        """Take a row in hand that is not sent: it has its outcome."""
        self._ended += 1

    def permit(self, row: RowCall) -> bool:
        """Record that a row has its permit, or is left; return whether it is its player's first of the bucket."""
        player = row.player
        if player is None or player.permitted or player.bucket is None:
            return False
        player.permitted = True
        player.bucket.unpermitted -= 1
        return True

    def take(self, row: RowCall | InvalidRow) -> None:
        """Take a row out of hand: the reader has its outcome."""
        player = row.player
        if isinstance(row, InvalidRow) or player is None:
            self._ended -= 1
            return
        self._bucket_of(row).rows -= 1
        player.rows -= 1
        if not player.rows:
            del self._players[player.name]
            self._leave_bucket(player)

    def admit_waiting(self) -> list[Player]:
        """Return the players for whom there is room now, and whose rows may be sent from now on; a turn's worth at most."""
        admitted: list[Player] = []
        for bucket in self._buckets.values():
            while bucket.waiting and bucket.may_ask and len(admitted) < GRANTS_A_TURN:
                player = bucket.waiting.popleft()
                self._enter_bucket(player, bucket)
                player.running = True
                admitted.append(player)
        return admitted

    @property
    def has_waiting(self) -> bool:
        """Whether players wait for room."""
        return any(bucket.waiting for bucket in self._buckets.values())

    def unbegun_rows(self) -> list[RowCall]:
        """Return the rows in hand that have not begun."""
        return [row for player in self._players.values() for row in player.queue]

    @staticmethod
    def _enter_bucket(player: Player, bucket: _Bucket) -> None:
        player.bucket = bucket
        player.permitted = False
        bucket.players += 1
        bucket.unpermitted += 1

    @staticmethod
    def _leave_bucket(player: Player) -> None:
        if player.bucket is not None:
            player.bucket.players -= 1
            player.bucket.unpermitted -= not player.permitted
            player.bucket = None

    def _bucket_of(self, row: RowCall) -> _Bucket:
        endpoint = row.call.endpoint
        bucket = self._buckets.get(endpoint.bucket)
        if bucket is None:
            limit = getattr(self._limits, endpoint.limit)
            unpermitted = min(ceil(limit / 2), MOST_UNPERMITTED)
            asking = min(unpermitted, MOST_ASKING) if self._journal else unpermitted
            bucket = self._buckets[endpoint.bucket] = _Bucket(min(limit, MOST_PLAYERS), unpermitted, asking)
        return bucket
