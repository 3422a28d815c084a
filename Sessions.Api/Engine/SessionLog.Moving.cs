using System.Runtime.CompilerServices;
using Sessions.Api.Domain;
using Sessions.Api.Engine.Sealing;
using Sessions.Api.Storage;

namespace Sessions.Api.Engine;

/// <content>Sessions as they are moved between stores.</content>
internal sealed partial class SessionLog
{
    // Why a turn of an export is incomplete that could not be read.
    private const string Unreadable = "unreadable";

    /// <summary>
    /// Reads everything, or everything of a user, to be moved to another store: each session, followed by all its turns in order. It goes
    /// past sessions that can't be read; a turn that can't is
    /// there without its texts, as the others keep their numbers.
    /// </summary>
    public async IAsyncEnumerable<ArchiveEntry> ExportAsync(string? userId, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        Session? session = null;
        Turn? last = null;
        SealScope? scope = null;
        try
        {
            await foreach (var entry in _store.ExportAsync(userId, cancellationToken))
            {
                if (entry.Session is { } archived)
                {
                    foreach (var missing in MissingTurns(session, last, session?.TurnCount))
                    {
                        yield return missing;
                    }

                    scope?.Dispose();
                    scope = _sealer?.For(archived.Session.UserId, cancellationToken);
                    (session, last) = (await OpenExportedAsync(scope, archived.Session), null);
                    if (session is not null)
                    {
                        yield return new(archived with { Session = session }, null);
                    }
                }
                else if (session is not null && entry.Turn is { } turn)
                {
                    foreach (var missing in MissingTurns(session, last, turn.Turn.Number - 1))
                    {
                        yield return missing;
                    }

                    last = await OpenExportedAsync(scope, session, turn.Turn);
                    yield return new(null, turn with { Turn = last });
                }
            }

            foreach (var missing in MissingTurns(session, last, session?.TurnCount))
            {
                yield return missing;
            }
        }
        finally
        {
            scope?.Dispose();
        }
    }

    /// <summary>Adds a session as it was in another store, with its ids, times, turns and idempotency records.</summary>
    public async ValueTask<CopyStatus> ImportAsync(
        ArchivedSession session, IAsyncEnumerable<ArchivedTurn> turns, CancellationToken cancellationToken)
    {
        var head = session.Session;
        using var scope = _sealer?.For(head.UserId, cancellationToken);
        if (scope is not null)
        {
            await scope.ForWritingAsync(until: head.ExpiresAt);
        }

        var sealedHead = scope?.Seal(head) ?? head;
        var made = new NewSession(head.Id, head.Key, head.Kind, head.UserId, sealedHead.Metadata, head.CreatedFrom,
            session.CreatedBy?.Key);
        var result = await CopyAsync("import", new CopyRequest
        {
            Session = made,
            Owner = Owner.Anyone,
            Head = sealedHead,
            CreatedBy = session.CreatedBy,
            Summary = sealedHead.Summary,
            Turns = scope is null ? turns : SealAsync(scope, head.Id, head.Key, head.Kind, turns, cancellationToken),
        }, cancellationToken);
        return result.Status;
    }

    private async ValueTask<Session?> OpenExportedAsync(SealScope? scope, Session session)
    {
        try
        {
            return await ReadableAsync(scope, session with { LastTurn = null });
        }
        catch (Exception e) when (e is StoredDataException or KeyDestroyedException)
        {
            return null;
        }
    }

    private async ValueTask<Turn> OpenExportedAsync(SealScope? scope, Session session, Turn turn)
    {
        try
        {
            return (await ReadableAsync(scope, session, [turn]))[0];
        }
        catch (Exception e) when (e is StoredDataException or KeyDestroyedException)
        {
            return turn with
            {
                Input = Items.None,
                Output = Items.None,
                Response = default,
                Status = TurnStatus.Incomplete,
                IncompleteReason = Unreadable
            };
        }
    }

    // What stands in the place of turns that the store could not read: behind the last one that it could, up to a number.
    private static IEnumerable<ArchiveEntry> MissingTurns(Session? session, Turn? last, int? until)
    {
        for (var number = (last?.Number ?? 0) + 1; number <= until; number++)
        {
            yield return new(null, new ArchivedTurn(new Turn
            {
                Number = number,
                Parent = number - 1,
                RunStart = last?.RunStart ?? 1,
                Nonce = TurnNonce.OfNumber(number),
                Status = TurnStatus.Incomplete,
                IncompleteReason = Unreadable,
                Input = Items.None,
                Output = Items.None,
                AgentType = "unknown",
                AgentUsed = "unknown",
                CreatedAt = last?.CreatedAt ?? session!.CreatedAt,
            }, null));
        }
    }
}
