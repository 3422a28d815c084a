using Npgsql;
using Sessions.Api.Domain;

namespace Sessions.Api.Storage.Postgres;

/// <summary>A row of "sessions" as it was read.</summary>
/// <param name="Sid">Its number, which is never given again.</param>
/// <param name="Session">What it is to others; of a row of version 0 no session.</param>
/// <param name="LeaseToken">Who has it.</param>
/// <param name="LeaseUntil">For how long.</param>
/// <param name="IsCancelled">Whether that turn is to stop.</param>
internal sealed record PostgresSession(long Sid, Session Session, Guid? LeaseToken, long LeaseUntil, bool IsCancelled)
{
    /// <summary>Whether there is a session: else the row is a lease on its id, or a copy under way.</summary>
    public bool IsThere => Session.Revision.Version > 0;

    /// <summary>Whether it has not expired.</summary>
    public bool IsLive(long now) => Session.ExpiresAt.ToMicroseconds() > now;

    /// <summary>Whether somebody else than that one has it.</summary>
    public bool IsHeld(long now, Guid? token) => LeaseToken is { } holder && holder != token && LeaseUntil > now;
}

/// <summary>Reads rows.</summary>
internal static class PostgresRows
{
    /// <summary>The columns of a session, in the order in which they are read.</summary>
    public const string SessionColumns =
        "s.sid, s.id, s.key, s.kind, s.user_id, s.created_from, s.created_at, s.last_activity_at, s.expires_at, "
        + "s.version, s.tag, s.rewrites, s.turn_count, s.error_count, s.bytes, "
        + "s.metadata, s.summary, s.summary_covers, s.last_error, s.lease_token, s.lease_until, s.is_cancelled";

    /// <summary>The columns of a turn.</summary>
    public const string TurnColumns = "t.number, t.details, t.input, t.output, t.response, t.parent, t.run_start, t.nonce";

    /// <summary>How many columns a session has.</summary>
    public const int SessionWidth = 22;

    /// <summary>How many columns a turn has.</summary>
    public const int TurnWidth = 8;

    /// <summary>Reads a session.</summary>
    /// <exception cref="StoredDataException">It can't be read.</exception>
    public static PostgresSession ReadSession(NpgsqlDataReader row, int? lastTurnAt = null)
    {
        var id = row.GetString(1);
        try
        {
            var session = new Session
            {
                Id = id,
                Key = row.GetGuid(2),
                Kind = (SessionKind)checked((byte)row.GetInt16(3)),
                UserId = row.IsDBNull(4) ? null : row.GetString(4),
                CreatedFrom = SessionOrigins.Parse(row.GetString(5)),
                CreatedAt = Timestamps.FromMicroseconds(row.GetInt64(6)),
                LastActivityAt = Timestamps.FromMicroseconds(row.GetInt64(7)),
                ExpiresAt = Timestamps.FromMicroseconds(row.GetInt64(8)),
                Revision = new Revision(row.GetInt64(9), row.GetInt64(10)),
                Rewrites = row.GetInt32(11),
                TurnCount = row.GetInt32(12),
                ErrorCount = row.GetInt32(13),
                Bytes = row.GetInt64(14),
                Metadata = ReadBytes(row, 15),
                Summary = row.IsDBNull(16) ? null : new Summary(new Utf8Text(ReadBytes(row, 16)), row.GetInt32(17)),
                LastError = row.IsDBNull(18) ? (Utf8Text?)null : new Utf8Text(ReadBytes(row, 18)),
                LastTurn = lastTurnAt is { } at && !row.IsDBNull(at) ? ReadTurn(row, at, id) : null,
            };
            var leaseUntil = row.GetInt64(20);
            var isSound = (session.Checked().Revision.Version > 0 || session is { TurnCount: 0, ErrorCount: 0, Bytes: 0 })
                && Timestamps.FromMicroseconds(leaseUntil) < DateTimeOffset.MaxValue;
            return isSound
                ? new PostgresSession(row.GetInt64(0), session, row.IsDBNull(19) ? null : row.GetGuid(19), leaseUntil, row.GetBoolean(21))
                : throw new InvalidDataException("What is no session yet has no turns.");
        }
        catch (Exception e) when (e is InvalidDataException or InvalidCastException or ArgumentOutOfRangeException or OverflowException)
        {
            var damaged = Damaged(id, $"Session '{id}' can't be read: its data is damaged.", e);
            damaged.SessionKey = row.GetGuid(2);
            throw damaged;
        }
    }

    /// <summary>Reads a turn.</summary>
    /// <exception cref="StoredDataException">It can't be read.</exception>
    public static Turn ReadTurn(NpgsqlDataReader row, int at, string sessionId)
    {
        var number = row.GetInt32(at);
        try
        {
            // The details were packed before the number was known: what depends on it has columns of its own.
            var turn = TurnCodec.UnpackDetails(ReadBytes(row, at + 1), number, ReadBytes(row, at + 2), ReadBytes(row, at + 3),
                ReadBytes(row, at + 4));
            var nonce = new TurnNonce((ulong)row.GetInt64(at + 7));
            return (turn with { Parent = row.GetInt32(at + 5), RunStart = row.GetInt32(at + 6), Nonce = nonce }).Checked();
        }
        catch (Exception e) when (e is InvalidDataException or InvalidCastException or ArgumentOutOfRangeException or OverflowException)
        {
            throw Damaged(sessionId, $"Turn {number} of session '{sessionId}' can't be read: its data is damaged.", e);
        }
    }

    /// <summary>A session's last turn is not there.</summary>
    public static StoredDataException NoTurn(Session session) => NoTurn(session.Id, session.TurnCount);

    /// <summary>A turn is not there.</summary>
    public static StoredDataException NoTurn(string sessionId, int number) => Damaged(
        sessionId, $"Turn {number} of session '{sessionId}' can't be read: it is missing.", new InvalidDataException());

    /// <summary>Of a session's turns some are missing, or not where they say they are.</summary>
    public static StoredDataException Gap(string sessionId) => Damaged(
        sessionId, $"Turns of session '{sessionId}' can't be read: some are missing.", new InvalidDataException());

    /// <summary>A session has more turns than it says, or says what can't be counted on from.</summary>
    public static StoredDataException NoPlace(string sessionId, Exception e) => Damaged(
        sessionId, $"Session '{sessionId}' can't be gone on from: its data is damaged.", e);

    private static byte[] ReadBytes(NpgsqlDataReader row, int at) => row.IsDBNull(at) ? [] : row.GetFieldValue<byte[]>(at);

    private static StoredDataException Damaged(string sessionId, string message, Exception e) =>
        new(DamageReport.NameOf(sessionId), message, e);
}

/// <summary>A session that was opened in PostgreSQL.</summary>
/// <param name="request">What was asked for.</param>
/// <param name="status">What came of it.</param>
internal sealed class PostgresOpened(OpenRequest request, OpenStatus status) : OpenedSession(request, status)
{
    /// <summary>The row: the session's, or one that stands for it until it is there.</summary>
    public long? Sid { get; init; }

    /// <summary>Whether there was no session.</summary>
    public bool IsMissing { get; init; }

    /// <summary>Its id; of one that was missing and named by its key: none.</summary>
    public string? Id { get; init; }

    /// <summary>Whose it was.</summary>
    public string? UserId { get; init; }

    /// <summary>Its kind.</summary>
    public SessionKind Kind { get; init; }

    /// <summary>The state it was in.</summary>
    public Revision Revision { get; init; }

    /// <inheritdoc cref="Session.Rewrites"/>
    public int Rewrites { get; init; }

    /// <inheritdoc cref="Session.TurnCount"/>
    public int TurnCount { get; init; }

    /// <summary>The lease that keeps others away, if there is one.</summary>
    public Guid? Token => Request.Lease is { IsExclusive: true } lease ? lease.Token : null;

    /// <summary>Whether there is nothing left to let go of.</summary>
    public bool HasEnded { get; set; }
}
