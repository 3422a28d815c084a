using System.Diagnostics;
using System.Security.Cryptography;
using System.Text;
using Sessions.Api.Domain;

namespace Sessions.Api.Storage.Sqlite;

/// <summary>The steps that changes are made of, on the writer's connection and inside its transaction.</summary>
internal sealed class SqliteUnitOfWork(SqliteDatabase db, StorePolicy policy, TimeProvider time)
{
    /// <summary>How many turns one transaction removes or copies at the most, so that others never wait long.</summary>
    public const int TurnsPerStep = 500;

    /// <summary>The limit on what is bound to nobody, as <c>config.yaml</c> names it.</summary>
    public const string UnownedLimit = "limits.unowned_bytes";

    /// <summary>The limit on the chains of one owner.</summary>
    public const string ChainLimit = "limits.responses_bytes_per_user";

    /// <summary>After how many others a removal is forgotten: some 30 MiB of them.</summary>
    public const int MaxRemovals = 250_000;

    // More than one removal leaves, so that those of a time without this bound go as well.
    private const int ForgottenAtOnce = 8;
    private const int TurnsAtOnce = 100;
    private const string Unowned = "unowned_size";
    private const string RemovalCount = "removals";

    // How long clearing away keeps the turns that come meanwhile.
    private static readonly TimeSpan StepTime = TimeSpan.FromMilliseconds(1);

    // A turn runs no longer than that, whatever is configured.
    private static readonly TimeSpan RemovalsKept = TimeSpan.FromHours(24);

    public SqliteDatabase Db => db;

    public long Now => time.GetUtcNow().ToMicroseconds();

    /// <summary>Whether a session was unlinked that is too long to be removed in one step.</summary>
    public bool HasUnlinked { get; set; } = true;

    /// <summary>When a session of a kind expires whose last activity was then.</summary>
    public long ExpiresAt(SessionKind kind, long activity) => activity + (policy.Lifetime(kind).Ticks / TimeSpan.TicksPerMicrosecond);

    // Finding

    /// <summary>The head in a row; <see langword="null"/>: it is gone, or has expired.</summary>
    public Session? Head(long row, long now, out long lastTurn)
    {
        Session head;
        using (var rows = db[SqliteSql.HeadByRow].Bind(row).Read())
        {
            lastTurn = 0;
            if (!rows.Next() || rows.Long(6) <= now)
            {
                return null;
            }

            lastTurn = rows.LastTurnRow();
            head = rows.ToHead();
        }

        return head.Key == default ? head with { Key = GiveKey(row) } : head;
    }

    /// <summary>A session in a row, with its last turn.</summary>
    public Session Get(long row)
    {
        using var rows = db[SqliteSql.SessionByRow].Bind(row).Read();
        return rows.Next() ? rows.ToSession() : throw new InvalidOperationException($"There is no session in row {row}.");
    }

    /// <summary>Where a session is, with no more of it read than that takes: it may be damaged.</summary>
    public SqliteLocation? Locate(SessionRef session)
    {
        using var rows = session.Id is { } id ? db[SqliteSql.RowOfId].Bind(id).Read() : db[SqliteSql.RowOfKey].Bind(session.Key).Read();
        return rows.Next() ? new SqliteLocation(rows.Long(0), rows.Long(1), rows.TextOrNull(2), rows.Text(3)) : null;
    }

    /// <summary>Gives a key to a session of a time when there were none.</summary>
    public Guid GiveKey(long row)
    {
        var key = SessionKey.New();
        db[SqliteSql.GiveKey].Bind(key).Bind(row).Run();
        return key;
    }

    // Sessions

    /// <summary>A session as it is at first.</summary>
    public Session New(NewSession added, long now) => new()
    {
        Id = added.Id,
        Key = added.Key,
        Kind = added.Kind,
        UserId = added.UserId,
        CreatedAt = Timestamps.FromMicroseconds(now),
        CreatedFrom = added.CreatedFrom,
        LastActivityAt = Timestamps.FromMicroseconds(now),
        ExpiresAt = Timestamps.FromMicroseconds(ExpiresAt(added.Kind, now)),
        Revision = Revision.First(),
        Metadata = added.Metadata,
        TurnCount = 0,
        Bytes = added.Metadata.Length,
    };

    /// <summary>Adds a session.</summary>
    /// <returns>Its row.</returns>
    public long Insert(Session session, Guid? reservedBy)
    {
        BindHead(db[SqliteSql.InsertSession], session, reservedBy).Run();
        return db.LastRow;
    }

    /// <summary>Removes the expired sessions that still have the id or the key.</summary>
    /// <returns>Whether both are free now: no session that lives has one of them.</returns>
    public bool Vacate(string id, Guid key, long now, ref SqliteEffects effects)
    {
        List<long>? expired = null;
        using (var rows = db[SqliteSql.Holders].Bind(id).Bind(key).Read())
        {
            while (rows.Next())
            {
                if (rows.Long(1) > now)
                {
                    return false;
                }

                (expired ??= []).Add(rows.Long(0));
            }
        }

        foreach (var row in expired ?? [])
        {
            effects.Expired += Remove(row)?.IsCounted == true ? 1 : 0;
        }

        return true;
    }

    /// <summary>Makes a session that clients don't see yet, to be filled with turns; given up when it has not been finished by
    /// then.</summary>
    public long StartBuilding(long until)
    {
        db[SqliteSql.StartBuilding].Bind(until).Run();
        return db.LastRow;
    }

    /// <summary>Whether a session that is being built is still there; it gets more time.</summary>
    public bool KeepsBuilding(long row, long until) => db[SqliteSql.KeepBuilding].Bind(until).Bind(row).Bind(Now).Run() > 0;

    /// <summary>Gives up a session that is being built: what it holds is removed step by step.</summary>
    public void GiveUpBuilding(long row) => HasUnlinked |= KeepsBuilding(row, until: 0);

    /// <summary>Shows a session that has been built.</summary>
    public void Publish(long built, Session session, Guid? reservedBy) =>
        BindHead(db[SqliteSql.PublishSession], session, reservedBy).Bind(built).Run();

    /// <summary>Extends a session's life where it would end before then: a turn has begun on it.</summary>
    public void Extend(long row, long until, long now) =>
        db[SqliteSql.Extend].Bind(until).Bind(Random.Shared.NextInt64()).Bind(row).Bind(now).Run();

    // Turns

    /// <summary>Adds a turn behind the one before it; the head is changed by whoever adds it.</summary>
    /// <returns>Its row.</returns>
    public long Append(long session, Turn turn, long previous, Idempotency? request)
    {
        var statement = db[SqliteSql.InsertTurn].Bind(session).Bind(turn.Number).Bind(previous);
        BindTurn(statement, turn).Bind(request?.Key).Bind(request?.Body).Run();
        return db.LastRow;
    }

    /// <summary>Puts a turn in the place of another.</summary>
    public void Replace(long row, Turn turn) => BindTurn(db[SqliteSql.ReplaceTurn], turn).Bind(row).Run();

    /// <summary>Copies turns to a session that is being built.</summary>
    /// <returns>How many bytes they have.</returns>
    public long CopyTurns(long source, string sourceId, long built, int after, int to)
    {
        long bytes = 0;
        var last = LastTurn(built);
        for (var number = after + 1; number <= to;)
        {
            var turns = new SqliteTurnReader(db, source, sourceId).ReadSome(
                number, Math.Min(to, number + TurnsAtOnce - 1), SqliteSessionStore.BytesPerStep, static (turn, in _) => turn);
            foreach (var turn in turns)
            {
                last = Append(built, turn, last, request: null);
                bytes += turn.Bytes;
            }

            number += turns.Count;
        }

        SetLastTurn(built, last);
        return bytes;
    }

    /// <summary>The row of a session's last turn; 0: it has none.</summary>
    public long LastTurn(long session)
    {
        using var rows = db[SqliteSql.LastTurn].Bind(session).Read();
        return rows.Next() ? rows.Long(0) : 0;
    }

    public void SetLastTurn(long session, long turn) => db[SqliteSql.SetLastTurn].Bind(turn == 0 ? null : turn).Bind(session).Run();

    // Changes of heads

    public void Advance(long row, Session to, long lastTurn) =>
        db[SqliteSql.Advance].Bind(to.LastActivityAt.ToMicroseconds()).Bind(to.ExpiresAt.ToMicroseconds()).Bind(to.Revision.Version)
            .Bind(to.Revision.Tag)
            .Bind(to.TurnCount).Bind(lastTurn).Bind(to.Bytes).Bind(row).Run();

    public void Fail(long row, Session to) =>
        db[SqliteSql.Fail].Bind(to.LastActivityAt.ToMicroseconds()).Bind(to.ExpiresAt.ToMicroseconds()).Bind(to.Revision.Version)
            .Bind(to.Revision.Tag)
            .Bind(to.ErrorCount).BindTextOrBytes(to.LastError).Bind(row).Run();

    public void Rewrite(long row, Session to) =>
        db[SqliteSql.Rewrite].Bind(to.Rewrites).Bind(to.Revision.Version).Bind(to.Revision.Tag).Bind(to.Bytes).Bind(row).Run();

    public void ReplaceMetadata(long row, Session to) =>
        db[SqliteSql.ReplaceMetadata].Bind(to.Metadata.Span).Bind(to.Revision.Version).Bind(to.Revision.Tag).Bind(to.Bytes).Bind(row).Run();

    public void Summarize(long row, Summary? summary) =>
        db[SqliteSql.Summarize].BindTextOrBytes(summary?.Text).Bind(summary?.CoversTurns).Bind(row).Run();

    public void BindUser(long row, string userId) => db[SqliteSql.BindUser].Bind(userId).Bind(row).Run();

    // Room

    /// <summary>Whether one session more would push another one out.</summary>
    public bool IsFull(SessionKind kind, string? userId, long now)
    {
        var max = policy.MaxPerUser(kind);
        if (max == 0 || userId is null)
        {
            return false;
        }

        using var rows = db[SqliteSql.NthOfUser].Bind(userId).Bind((long)kind).Bind(now).Bind(max - 1).Read();
        return rows.Next();
    }

    /// <summary>Removes those of a user's sessions that one more of the kind pushes out: the least recently active ones, first of those
    /// on which no turn runs.</summary>
    public void MakeRoom(SessionKind kind, string? userId, long now, ref SqliteEffects effects)
    {
        if (!IsFull(kind, userId, now))
        {
            return;
        }

        List<(long Row, string Id)> idle = [], running = [];
        using (var rows = db[SqliteSql.OldestOfUser].Bind(userId).Bind((long)kind).Bind(now).Read())
        {
            while (rows.Next())
            {
                var id = rows.Text(1);
                if (!policy.IsDamaged(id))
                {
                    (policy.IsRunning(id) ? running : idle).Add((rows.Long(0), id));
                }
            }
        }

        var excess = idle.Count + running.Count - policy.MaxPerUser(kind) + 1;
        foreach (var (row, id) in idle.Concat(running).Take(Math.Max(0, excess)))
        {
            // One that is found to be damaged now does not count.
            if (!IsDamaged(row, id))
            {
                Evict(row, ref effects);
            }
        }
    }

    /// <summary>Makes room for more bytes of an owner, if need be by removing the owner's oldest chains.</summary>
    /// <param name="kind">The kind of the session that gets them.</param>
    /// <param name="userId">Its user.</param>
    /// <param name="self">Its row, if it has one: it does not make room for itself.</param>
    /// <param name="added">How many bytes the owner gets, by <see cref="StorePolicy.SizeOf"/>.</param>
    /// <param name="now">The time.</param>
    /// <param name="effects">What was removed for it.</param>
    /// <returns>The limit that leaves no room for them, where that is so: then nothing was removed.</returns>
    public string? MakeRoom(SessionKind kind, string? userId, long self, long added, long now, ref SqliteEffects effects)
    {
        if (added <= 0)
        {
            return null;
        }

        var chains = kind == SessionKind.Chain && policy.ChainBytesPerOwner > 0 ? ChainSize(userId) + added - policy.ChainBytesPerOwner : 0;
        var unowned = userId is null && policy.UnownedBytes > 0 ? Total(Unowned) + added - policy.UnownedBytes : 0;
        var excess = Math.Max(chains, unowned);
        if (excess <= 0)
        {
            return null;
        }

        var removed = OldestChains(userId, now, self, ref excess);
        if (excess > 0)
        {
            return unowned > 0 && unowned >= chains ? UnownedLimit : ChainLimit;
        }

        foreach (var row in removed)
        {
            Evict(row, ref effects);
        }

        return null;
    }

    // Removing

    /// <summary>
    /// Takes a session away from clients, with its idempotency record. Its turns go at once where they are few; else
    /// <see cref="RemoveUnlinked"/> removes them step by step. Nothing of it is decoded: it may be damaged.
    /// </summary>
    /// <returns>What it was; <see langword="null"/> where there is none to be removed.</returns>
    public SqliteRemoved? Remove(long row)
    {
        SqliteRemoved removed;
        long turns;
        using (var rows = db[SqliteSql.Removable].Bind(row).Read())
        {
            if (!rows.Next())
            {
                return null;
            }

            turns = rows.Long(0);
            var key = rows.Span(3);
            removed = new SqliteRemoved(
                rows.TextOrNull(2), key.Length == 16 ? new Guid(key) : null, !rows.IsNull(2) && rows.Long(4) != (long)SessionKind.Chain);
            if (!rows.IsNull(1) && !rows.IsNull(2))
            {
                db[SqliteSql.DeleteReservation].BindRaw(rows.Span(1)).Bind(rows.Text(2)).Bind(Now).Run();
            }
        }

        if (turns is < 0 or > TurnsPerStep || RemoveLastTurns(row, TurnsPerStep) == TurnsPerStep)
        {
            db[SqliteSql.UnlinkSession].Bind(row).Run();
            HasUnlinked = true;
        }
        else
        {
            db[SqliteSql.DeleteSession].Bind(row).Run();
        }

        return removed;
    }

    /// <summary>Takes all sessions of a user away from clients; <see cref="RemoveUnlinked"/> removes what they hold.</summary>
    /// <returns>What it was, and what the sessions were.</returns>
    public (Erasure Erasure, IReadOnlyList<SqliteRemoved> Removed) UnlinkUser(string userId, long now)
    {
        Erasure erasure;
        List<SqliteRemoved> removed = [];
        using (var sums = db[SqliteSql.SumUser].Bind(userId).Bind(now).Read())
        {
            sums.Next();
            erasure = new Erasure(sums.Long(0), sums.Long(1));
        }

        using (var rows = db[SqliteSql.KeysOfUser].Bind(userId).Read())
        {
            while (rows.Next())
            {
                var key = rows.Span(0);
                removed.Add(new SqliteRemoved(rows.TextOrNull(1), key.Length == 16 ? new Guid(key) : null, IsCounted: true));
            }
        }

        db[SqliteSql.DeleteReservationsOfUser].Bind(userId).Run();
        HasUnlinked |= db[SqliteSql.UnlinkUser].Bind(userId).Run() > 0;
        return (erasure, removed);
    }

    /// <summary>Removes some of what unlinked sessions hold.</summary>
    /// <returns>Whether there may be more.</returns>
    public bool RemoveUnlinked()
    {
        var now = Now;
        for (var left = TurnsPerStep; left > 0; left--)
        {
            if (FirstUnlinked(now) is not { } row)
            {
                return HasUnlinked = false;
            }

            var removed = RemoveLastTurns(row, left);
            if (removed < left)
            {
                db[SqliteSql.DeleteSession].Bind(row).Run();
            }

            left -= removed;
        }

        return HasUnlinked = true;
    }

    /// <summary>Removes some of the sessions and reservations that have expired. Nothing of them is decoded that could be
    /// damaged.</summary>
    /// <returns>The sessions, and whether there may be more of anything.</returns>
    public (List<SqliteRemoved> Removed, bool More) RemoveExpired(int limit)
    {
        var now = Now;
        List<long> expired = [];
        var more = false;
        using (var rows = db[SqliteSql.Expired].Bind(now).Bind(limit).Read())
        {
            for (long turns = 0; rows.Next();)
            {
                expired.Add(rows.Long(0));
                turns += Math.Clamp(rows.Long(1), 0, TurnsPerStep + 1);
                if (expired.Count == limit || turns > TurnsPerStep)
                {
                    more = true;
                    break;
                }
            }
        }

        List<SqliteRemoved> removed = [];
        var started = Stopwatch.GetTimestamp();
        foreach (var row in expired)
        {
            if (Remove(row) is { } gone)
            {
                removed.Add(gone);
            }

            // Turns wait for this step to end; what is in no cache takes the disk a while.
            if (Stopwatch.GetElapsedTime(started) > StepTime)
            {
                more = true;
                break;
            }
        }

        more |= RemoveExpiredReservations(now, limit);
        more |= db[SqliteSql.ForgetRemovals].Bind(now - (RemovalsKept.Ticks / TimeSpan.TicksPerMicrosecond)).Bind(limit).Run() == limit;
        return (removed, more);
    }

    /// <summary>Writes so many bytes where nobody sees them.</summary>
    /// <returns>The row, to be removed again; if that fails, it is cleared away like an expired session.</returns>
    public long Probe(int bytes)
    {
        db[SqliteSql.Probe].Bind(bytes).Run();
        return db.LastRow;
    }

    /// <summary>Gives some free pages back to the disk.</summary>
    /// <returns>Whether there are more.</returns>
    public bool GiveBackSpace()
    {
        db[SqliteSql.GiveBackSpace].Run();
        using var rows = db[SqliteSql.CountFree].Read();
        return rows.Next() && rows.Long(0) > 0;
    }

    // What was removed and may not come back

    /// <summary>How many removals there have been: what began then asks for those after that.</summary>
    public long CountRemovals() => CountRemovals(db);

    /// <inheritdoc cref="CountRemovals()"/>
    public static long CountRemovals(SqliteDatabase db) => Total(db, RemovalCount);

    /// <summary>Remembers that a session was deleted, or was to be: a first turn that runs on it now does not create it.</summary>
    public void MarkDeleted(SessionRef session, string? id, Owner owner, long now)
    {
        CountRemoval(now);
        foreach (var scope in ScopesOf(owner))
        {
            if (id is not null)
            {
                Mark(id, scope, now);
            }

            if (session.Id is null)
            {
                Mark(Name(session.Key), scope, now);
            }
        }
    }

    /// <summary>Remembers that a user was erased: what is being made for the user now does not come to be.</summary>
    public void MarkErased(string userId, long now)
    {
        CountRemoval(now);
        Mark("", UserScope(userId), now);
    }

    /// <summary>Whether a session that is to be created, or its user, was removed after so many removals.</summary>
    public bool IsRemoved(NewSession created, long since)
    {
        var removals = CountRemovals() - since;
        if (removals is 0 or > MaxRemovals)
        {
            // Where some are forgotten that came since, it may be one of them.
            return removals > 0;
        }

        var scope = created.UserId is { } user ? UserScope(user) : ClaimingScope;
        return IsMarked(created.Id, AnyScope) || IsMarked(created.Id, scope) || IsMarked(Name(created.Key), AnyScope)
            || IsMarked(Name(created.Key), scope)
            || (created.UserId is not null && IsMarked("", scope));

        bool IsMarked(string what, string by)
        {
            using var rows = db[SqliteSql.IsRemoved].Bind(Hash(what, by)).Bind(since).Read();
            return rows.Next();
        }
    }

    // Idempotency keys of sessions

    /// <summary>Ties a key to a session's id; <see langword="null"/>: there would be no room for that session.</summary>
    public KeyReservation? Reserve(Idempotency key, Owner owner, string sessionId, long now)
    {
        using (var rows = db[SqliteSql.FindReservation].Bind(key.Key).Read())
        {
            if (rows.Next())
            {
                var reserved = rows.Text(1);
                if (rows.Long(2) > now || IsReservedBy(reserved, key.Key, now))
                {
                    if (rows.Span(0).Length != 16)
                    {
                        throw new StoredDataException($"reservation {key.Key:N}",
                            "The record of this idempotency key can't be read: it is damaged.");
                    }

                    var isOthers = Locate(SessionRef.ById(reserved)) is { } session && session.ExpiresAt > now
                        && !owner.MayHave(session.UserId);
                    return KeyReservation.Found(reserved, rows.GuidOrNull(0) == key.Body, sessionId, !isOthers);
                }
            }
        }

        if (owner.UserId is null && !policy.HasUnownedRoom(Total(Unowned) - ChainSize(null)))
        {
            return null;
        }

        Tie(key, sessionId, ExpiresAt(SessionKind.Session, now));
        return new(sessionId, SameBody: true, IsNew: true);
    }

    /// <summary>Ties a key to a session's id, whatever it was tied to before.</summary>
    public void Tie(Idempotency key, string sessionId, long until) =>
        db[SqliteSql.Reserve].Bind(key.Key).Bind(key.Body).Bind(sessionId).Bind(until).Run();

    private bool IsDamaged(long row, string id) => policy.IsDamaged(id) || !policy.IsReadable(() => Get(row));

    private void Evict(long row, ref SqliteEffects effects)
    {
        if (Remove(row) is { } removed)
        {
            effects.Evicted += removed.IsCounted ? 1 : 0;
            if (removed.Key is { } key)
            {
                (effects.Keys ??= []).Add(key);
            }
        }
    }

    // No more of them than take as much as is too much. Those on which no turn runs first.
    private List<long> OldestChains(string? userId, long now, long self, ref long excess)
    {
        List<long> chosen = [];
        List<(long Row, string Id, long Size)> running = [];
        using var rows = userId is null
            ? db[SqliteSql.OldestUnownedChains].Read()
            : db[SqliteSql.OldestOfUser].Bind(userId).Bind((long)SessionKind.Chain).Bind(now).Read();
        while (excess > 0 && rows.Next())
        {
            var (row, id, size) = (rows.Long(0), rows.Text(1), rows.Long(2));
            if (policy.IsRunning(id))
            {
                running.Add((row, id, size));
            }
            else if (row != self && !IsDamaged(row, id))
            {
                chosen.Add(row);
                excess -= size;
            }
        }

        foreach (var (row, id, size) in running)
        {
            if (excess > 0 && row != self && !IsDamaged(row, id))
            {
                chosen.Add(row);
                excess -= size;
            }
        }

        return chosen;
    }

    private long ChainSize(string? userId)
    {
        using var rows = db[SqliteSql.ChainSize].Bind(userId ?? "").Read();
        return rows.Next() ? rows.Long(0) : 0;
    }

    private long Total(string name) => Total(db, name);

    private static long Total(SqliteDatabase db, string name)
    {
        using var rows = db[SqliteSql.Total].Bind(name).Read();
        return rows.Next() ? rows.Long(0) : 0;
    }

    // Along their links; and where one of these is broken, on from the last landmark that there is. Never a turn of another session.
    private int RemoveLastTurns(long session, int limit)
    {
        var removed = 0;
        var last = LastTurn(session);
        while (removed < limit)
        {
            if (last == 0 || !IsTurnOf(last, session, out var previous))
            {
                if (LastLandmark(session) is not { } landmark || landmark == last)
                {
                    last = 0;
                    break;
                }

                last = landmark;
                continue;
            }

            db[SqliteSql.DeleteTurn].Bind(last).Run();
            last = previous;
            removed++;
        }

        SetLastTurn(session, last);
        return removed;
    }

    private bool IsTurnOf(long turn, long session, out long previous)
    {
        using var rows = db[SqliteSql.LinkByRow].Bind(turn).Read();
        var isOf = rows.Next() && rows.Long(0) == session;
        previous = isOf ? rows.Long(2) : 0;
        return isOf;
    }

    private long? LastLandmark(long session)
    {
        using var rows = db[SqliteSql.LastLandmark].Bind(session).Read();
        return rows.Next() ? rows.Long(0) : null;
    }

    private bool RemoveExpiredReservations(long now, int limit)
    {
        List<(byte[] Key, string SessionId, long? KeptUntil)> expired = [];
        using (var rows = db[SqliteSql.ExpiredReservations].Bind(now).Bind(limit).Read())
        {
            while (rows.Next())
            {
                expired.Add((rows.Bytes(0), rows.Text(1), rows.LongOrNull(2)));
            }
        }

        foreach (var (key, sessionId, keptUntil) in expired)
        {
            if (key.Length != 16)
            {
                // It can't belong to anything; and as it has expired, it goes.
                policy.Damage.Report($"reservation {Convert.ToHexString(key)} of {DamageReport.NameOf(sessionId)}", null);
            }

            // One whose session lives goes with the session: it is looked at again when that one would expire.
            if (keptUntil > now)
            {
                db[SqliteSql.KeepReservation].Bind(keptUntil).BindRaw(key).Run();
            }
            else
            {
                db[SqliteSql.DeleteExpiredReservation].BindRaw(key).Bind(now).Run();
            }
        }

        return expired.Count == limit;
    }

    private long? FirstUnlinked(long now)
    {
        using var rows = db[SqliteSql.Unlinked].Bind(now).Read();
        return rows.Next() ? rows.Long(0) : null;
    }

    /// <summary>Whether there is a session with an id that was made with an idempotency key.</summary>
    public bool IsReservedBy(string sessionId, Guid key, long now)
    {
        using var rows = db[SqliteSql.IsReservedBy].Bind(sessionId).Bind(now).Bind(key).Read();
        return rows.Next();
    }

    // On whose behalf something was deleted: only what that one might have had may not come back.
    private const string AnyScope = "*";
    private const string ClaimingScope = "?";

    private static string UserScope(string userId) => "=" + userId;

    private static IEnumerable<string> ScopesOf(Owner owner)
    {
        if (owner.IsAnyone)
        {
            return [AnyScope];
        }

        IEnumerable<string> user = owner.UserId is { } id ? [UserScope(id)] : [];
        return owner.MayClaim ? user.Append(ClaimingScope) : user;
    }

    private static string Name(Guid key) => key.ToString("N");

    // Whoever removes what is not there leaves something as well: the oldest goes where there would be too many.
    private void CountRemoval(long now)
    {
        db[SqliteSql.CountRemoval].Run();
        var forgotten = CountRemovals() - MaxRemovals;
        List<Guid> old = [];
        using (var rows = db[SqliteSql.OldestRemovals].Bind(now).Bind(ForgottenAtOnce).Read())
        {
            while (rows.Next() && rows.Long(1) <= forgotten)
            {
                old.Add(rows.GuidOrNull(0) ?? default);
            }
        }

        foreach (var what in old)
        {
            db[SqliteSql.ForgetRemoval].Bind(what).Run();
        }
    }

    private void Mark(string what, string scope, long now) => db[SqliteSql.MarkRemoved].Bind(Hash(what, scope)).Bind(now).Run();

    // No names: what is erased leaves none behind.
    private static Guid Hash(string what, string scope) => new(SHA256.HashData(Encoding.UTF8.GetBytes($"{scope}\0{what}")).AsSpan(0, 16));

    private static SqliteStatement BindTurn(SqliteStatement statement, Turn turn) => statement
        .Bind(TurnCodec.PackDetails(turn))
        .BindTextOrBytes(turn.Input.Bytes.Span, turn.Input.Form != ItemsForm.Json)
        .BindTextOrBytes(turn.Output.Bytes.Span, turn.Output.Form != ItemsForm.Json)
        .Bind(turn.Response.Span);

    private static SqliteStatement BindHead(SqliteStatement statement, Session session, Guid? reservedBy) => statement
        .Bind(session.Id).Bind(session.UserId).Bind(session.CreatedAt.ToMicroseconds()).Bind(session.CreatedFrom.Name())
        .Bind(session.LastActivityAt.ToMicroseconds()).Bind(session.ExpiresAt.ToMicroseconds()).Bind(session.Revision.Version)
        .Bind(session.Metadata.Span)
        .Bind(session.TurnCount).Bind(session.ErrorCount).BindTextOrBytes(session.LastError).BindTextOrBytes(session.Summary?.Text)
        .Bind(session.Summary?.CoversTurns)
        .Bind(session.Key).Bind((long)session.Kind).Bind(session.Revision.Tag).Bind(session.Rewrites).Bind(session.Bytes).Bind(reservedBy);
}

/// <summary>Where a session is.</summary>
internal readonly record struct SqliteLocation(long Row, long ExpiresAt, string? UserId, string Id);

/// <summary>A session that was removed.</summary>
/// <param name="Id">Its id, if it was visible.</param>
/// <param name="Key">Its key, if it had one.</param>
/// <param name="IsCounted">Whether it is one of those that are counted: visible, and not a chain.</param>
internal readonly record struct SqliteRemoved(string? Id, Guid? Key, bool IsCounted);

/// <summary>What a change did to other sessions, to be told when it is on the disk.</summary>
internal struct SqliteEffects
{
    /// <summary>Sessions that had expired and were in the way.</summary>
    public int Expired;

    /// <summary>Sessions that made room, without chains.</summary>
    public int Evicted;

    /// <summary>The keys of all that made room.</summary>
    public List<Guid>? Keys;
}
