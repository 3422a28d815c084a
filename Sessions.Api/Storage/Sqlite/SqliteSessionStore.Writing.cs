using Sessions.Api.Domain;

namespace Sessions.Api.Storage.Sqlite;

/// <content>Changes of a session that was opened.</content>
internal sealed partial class SqliteSessionStore
{
    public async ValueTask<WriteResult> WriteAsync(OpenedSession opened, SessionChange change, CancellationToken cancellationToken)
    {
        var to = (SqliteOpenedSession)opened;
        var written = await Writer.RunAsync(work => Write(work, to, change), cancellationToken);
        await PublishAsync(written.Created, written.Effects);
        if (change is ReplaceTurn && written.Result.Status == WriteStatus.Written && !await Writer.Checkpoints.TruncateAsync(RewriterWait))
        {
            // The file has it no more; the log will be rid of it when those who read have ended.
            Writer.Checkpoints.TruncateLater();
        }

        return written.Result;
    }

    private static Written Write(SqliteUnitOfWork work, SqliteOpenedSession opened, SessionChange change)
    {
        var now = work.Now;
        if (opened.Row == 0)
        {
            return change switch
            {
                AppendTurn { Create: { } create } append => CreateWithTurn(work, opened, append, create, now),
                RecordFailure { Create: { } create } failure => CreateWithFailure(work, opened, failure, create, now),
                _ => WriteStatus.Gone,
            };
        }

        if (work.Head(opened.Row, now, out var lastTurn) is not { } head || !opened.Request.Owner.MayHave(head.UserId))
        {
            return WriteStatus.Gone;
        }

        var isAsOpened = head.Revision == opened.Revision;
        return change switch
        {
            AppendTurn append => Append(work, opened, append, head, lastTurn, now),
            RecordFailure failure => Fail(work, opened.Row, failure, head, isAsOpened, now),
            ReplaceMetadata metadata => isAsOpened ? Replace(work, opened.Row, metadata, head, now) : WriteStatus.Stale,
            ReplaceTurn turn => isAsOpened ? Replace(work, opened.Row, turn, head) : WriteStatus.Stale,
            _ => throw new NotSupportedException($"A {change.GetType().Name} is not a change that this store knows."),
        };
    }

    private static Written Append(
        SqliteUnitOfWork work, SqliteOpenedSession opened, AppendTurn append, Session head, long lastTurn, long now)
    {
        var request = opened.Request;
        if (append.BesideOthers
            ? request.Idempotency is { } key && HasAnswered(work.Db, opened.Row, key.Key)
            : head.TurnCount != opened.TurnCount)
        {
            return WriteStatus.Stale;
        }

        var turn = append.At(head.TurnCount + 1);
        var summary = head.Rewrites == opened.Rewrites ? append.Summary : null;
        var user = head.UserId ?? request.Owner.UserId;
        var isClaimed = user is not null && head.UserId is null;
        var activity = Timestamps.FromMicroseconds(Math.Max(now, head.LastActivityAt.ToMicroseconds()));
        var advanced = head with
        {
            UserId = user,
            LastActivityAt = activity,
            ExpiresAt = Timestamps.FromMicroseconds(work.ExpiresAt(head.Kind, activity.ToMicroseconds())),
            Revision = head.Revision.Next(),
            TurnCount = turn.Number,
            LastTurn = turn,
            Summary = summary ?? head.Summary,
            Bytes = head.Bytes + turn.Bytes + (summary is null ? 0 : summary.Text.Length - (head.Summary?.Text.Length ?? 0)),
        };

        var effects = default(SqliteEffects);
        var added = isClaimed ? SizeOf(advanced) : SizeOf(advanced) - SizeOf(head);
        if (work.MakeRoom(head.Kind, user, opened.Row, added, now, ref effects) is { } limit)
        {
            return Written.Full(limit);
        }

        if (isClaimed)
        {
            work.MakeRoom(head.Kind, user, now, ref effects);
            work.BindUser(opened.Row, user!);
        }

        work.Advance(opened.Row, advanced, work.Append(opened.Row, turn, lastTurn, request.Idempotency));
        if (summary is not null)
        {
            work.Summarize(opened.Row, summary);
        }

        var session = head.Revision == opened.Revision ? advanced : null;
        return new Written(new WriteResult(WriteStatus.Written) { Session = session, Turn = turn }, effects);
    }

    private static Written CreateWithTurn(SqliteUnitOfWork work, SqliteOpenedSession opened, AppendTurn append, NewSession create, long now)
    {
        var turn = append.At(1);
        var session = work.New(create, now);
        session = session with
        {
            // As old as its first turn, which began before this.
            CreatedAt = turn.CreatedAt < session.CreatedAt ? turn.CreatedAt : session.CreatedAt,
            TurnCount = 1,
            LastTurn = turn,
            Summary = append.Summary,
            Bytes = session.Bytes + turn.Bytes + (append.Summary?.Text.Length ?? 0),
        };
        if (Prepare(work, opened, session, create, now, out var effects) is { } refused)
        {
            return refused;
        }

        work.MakeRoom(create.Kind, create.UserId, now, ref effects);
        var row = work.Insert(session, create.ReservedBy);
        work.SetLastTurn(row, work.Append(row, turn, 0, opened.Request.Idempotency));
        session = session with { Place = row };
        return new Written(new WriteResult(WriteStatus.Written) { Session = session, Turn = turn }, effects, create);
    }

    private static Written CreateWithFailure(
        SqliteUnitOfWork work, SqliteOpenedSession opened, RecordFailure failure, NewSession create, long now)
    {
        var session = work.New(create, now) with { ErrorCount = 1, LastError = failure.Error };
        if (work.IsFull(create.Kind, create.UserId, now))
        {
            return WriteStatus.Full;
        }

        if (Prepare(work, opened, session, create, now, out var effects) is { } refused)
        {
            return refused;
        }

        session = session with { Place = work.Insert(session, create.ReservedBy) };
        return new Written(new WriteResult(WriteStatus.Written) { Session = session }, effects, create);
    }

    // What keeps a session from being created by a turn that began when there was none.
    private static Written? Prepare(
        SqliteUnitOfWork work, SqliteOpenedSession opened, Session session, NewSession create, long now, out SqliteEffects effects)
    {
        effects = default;
        if (work.IsRemoved(create, opened.Removals))
        {
            return WriteStatus.Gone;
        }

        if (!work.Vacate(create.Id, create.Key, now, ref effects))
        {
            return WriteStatus.Stale;
        }

        return work.MakeRoom(create.Kind, create.UserId, 0, SizeOf(session), now, ref effects) is { } limit ? Written.Full(limit) : null;
    }

    private static Written Fail(SqliteUnitOfWork work, long row, RecordFailure failure, Session head, bool isAsOpened, long now)
    {
        var activity = Timestamps.FromMicroseconds(Math.Max(now, head.LastActivityAt.ToMicroseconds()));
        var failed = head with
        {
            LastActivityAt = activity,
            ExpiresAt = Timestamps.FromMicroseconds(work.ExpiresAt(head.Kind, activity.ToMicroseconds())),
            Revision = head.Revision.Next(),
            ErrorCount = head.ErrorCount + 1,
            LastError = failure.Error,
        };
        work.Fail(row, failed);
        return new Written(new WriteResult(WriteStatus.Written) { Session = isAsOpened ? failed : null }, default);
    }

    private static Written Replace(SqliteUnitOfWork work, long row, ReplaceMetadata change, Session head, long now)
    {
        var added = change.Metadata.Length - head.Metadata.Length;
        var effects = default(SqliteEffects);
        if (work.MakeRoom(head.Kind, head.UserId, row, added, now, ref effects) is { } limit)
        {
            return Written.Full(limit);
        }

        var replaced = head with { Metadata = change.Metadata, Revision = head.Revision.Next(), Bytes = Math.Max(0, head.Bytes + added) };
        work.ReplaceMetadata(row, replaced);
        return new Written(new WriteResult(WriteStatus.Written) { Session = replaced }, effects);
    }

    private static Written Replace(SqliteUnitOfWork work, long row, ReplaceTurn change, Session head)
    {
        var number = change.Turn.Number;
        ArgumentOutOfRangeException.ThrowIfGreaterThan(number, head.TurnCount);
        var turns = new SqliteTurnReader(work.Db, row, head.Id);
        var old = turns.Read(number);

        // Its place is not for the caller to change.
        var turn = change.Turn with { Parent = old.Parent, RunStart = old.RunStart, Nonce = old.Nonce };
        work.Replace(turns.RowOf(number), turn);
        var dropped = change.DropSummary ? head.Summary?.Text.Length ?? 0 : 0;
        var rewritten = head with
        {
            Rewrites = head.Rewrites + 1,
            Revision = head.Revision.Next(),
            Summary = change.DropSummary ? null : head.Summary,
            Bytes = Math.Max(0, head.Bytes + turn.Bytes - old.Bytes - dropped),
            LastTurn = number == head.TurnCount ? turn : null,
        };
        work.Rewrite(row, rewritten);
        if (change.DropSummary)
        {
            work.Summarize(row, null);
        }

        return new Written(new WriteResult(WriteStatus.Written) { Session = rewritten, Turn = turn }, default);
    }

    private static long SizeOf(Session session) => StorePolicy.SizeOf(session.Bytes, session.TurnCount);

    /// <summary>What came of a change, and what is to be told of it.</summary>
    private readonly record struct Written(WriteResult Result, SqliteEffects Effects, NewSession? Created = null)
    {
        public static implicit operator Written(WriteStatus status) => new(new WriteResult(status), default);

        public static Written Full(string limit) => new(new WriteResult(WriteStatus.Full) { Limit = limit }, default);
    }
}
