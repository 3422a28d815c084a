using System.Buffers;
using System.IO.Pipelines;
using System.Runtime.CompilerServices;
using System.Text.Json;
using Sessions.Api.Domain;
using Sessions.Api.Storage;

namespace Sessions.Api.Engine;

/// <summary>
/// Moves sessions between stores as NDJSON: a line for each session, followed by a line for each of its turns, and one at the end.
/// </summary>
internal static class Archive
{
    // Beyond anything that one turn can hold.
    private const int MaxLineBytes = 256 * 1024 * 1024;
    private const int FlushedAt = 1 << 16;

    // What is short: its turns are read before it is imported.
    private const int MaxTurnsAhead = 200;
    private const long MaxBytesAhead = 1 << 20;

    private static readonly byte[] NewLine = "\n"u8.ToArray();

    private static readonly JsonWriterOptions Written = new()
    {
        Encoder = ArchiveLineJson.Lines.Options.Encoder,
        MaxDepth = ArchiveLineJson.Lines.Options.MaxDepth,
        SkipValidation = true,
    };

    /// <summary>
    /// Writes everything, or everything of a user. It is written as it is taken: memory stays flat however much there is.
    /// </summary>
    /// <returns>How much was written.</returns>
    public static async Task<ArchiveEnd> ExportAsync(
        SessionLog log, string? userId, PipeWriter output, CancellationToken cancellationToken)
    {
        long sessions = 0, turns = 0;
        var sessionId = "";
        await foreach (var entry in log.ExportAsync(userId, cancellationToken))
        {
            if (entry.Session is { } session)
            {
                sessions++;
                sessionId = session.Session.Id;
            }
            else
            {
                turns++;
            }

            Write(output, ArchiveLine.From(entry, sessionId));
            if (output.UnflushedBytes >= FlushedAt)
            {
                await output.FlushAsync(cancellationToken);
            }
        }

        var end = new ArchiveEnd(sessions, turns);
        if (userId is null || sessions > 0)
        {
            // Of somebody of whom there is nothing, nothing is written.
            Write(output, new ArchiveLine { End = end });
        }

        await output.FlushAsync(cancellationToken);
        return end;
    }

    /// <summary>Adds the sessions of an export that are not there already.</summary>
    /// <param name="log">Where to.</param>
    /// <param name="input">The export.</param>
    /// <param name="check">Throws <see cref="InvalidDataException"/> for a session whose ids could never be asked for, or removed,
    /// again.</param>
    /// <param name="cancellationToken">Gives up; what is imported by then stays.</param>
    /// <returns>What became of them, in words.</returns>
    /// <exception cref="InvalidDataException">It is not a whole export; what is imported by then stays.</exception>
    public static async Task<string> ImportAsync(SessionLog log, Stream input, Action<Session> check, CancellationToken cancellationToken)
    {
        var lines = new Lines(input);
        await using var tally = new Tally();
        var hasEnd = true;
        while (await lines.NextAsync(cancellationToken) is { Session: { } line })
        {
            lines.Take();
            if (await lines.NextAsync(cancellationToken) is { Summary: { } summary })
            {
                lines.Take();
                line = line with { Summary = summary };
            }

            // A user's export of the version before had no last line.
            hasEnd &= line.Context is null;
            var archived = line.ToSession();
            check(archived.Session);

            // Short sessions go in together: a store writes many in the time that one takes it.
            var (turns, bytes, isWhole) = await lines.TurnsOfAsync(archived.Session.TurnCount, cancellationToken);
            if (isWhole)
            {
                await tally.MakeRoomAsync(bytes);
                tally.Add(archived.Session, bytes, log.ImportAsync(archived, turns.ToAsyncEnumerable(), cancellationToken).AsTask());
                continue;
            }

            await tally.EndAsync();
            tally.Add(archived.Session, bytes,
                log.ImportAsync(archived, lines.TurnsAsync(turns, cancellationToken), cancellationToken).AsTask());
            await tally.EndAsync();

            // Turns that the store had no use for.
            while (await lines.NextAsync(cancellationToken) is { Turn: not null })
            {
                lines.Take();
            }
        }

        await tally.EndAsync();
        var told = $"Sessions imported: {tally.Imported}; turns: {tally.Turns}; there already: {tally.Taken}; expired: {tally.Expired}.";
        var last = await lines.NextAsync(cancellationToken);
        return (last is null && !hasEnd) || (last?.End is { } end && end.Sessions == tally.Imported + tally.Taken + tally.Expired)
            ? told
            : throw new InvalidDataException($"{told} The file ends too early at line {lines.Number}: it is not the complete export.");
    }

    private static void Write(PipeWriter output, ArchiveLine line)
    {
        using (var writer = new Utf8JsonWriter(output, Written))
        {
            JsonSerializer.Serialize(writer, line, ArchiveLineJson.Lines.ArchiveLine);
        }

        output.Write(NewLine);
    }

    // What became of the sessions that are being imported, in their order.
    private sealed class Tally : IAsyncDisposable
    {
        // As many as a store may be given at a time.
        private const int MaxSessions = 256;
        private const long MaxBytes = 16 << 20;

        private readonly Queue<(Session Session, long Bytes, Task<CopyStatus> Import)> _running = new();
        private long _bytes;

        public long Imported { get; private set; }

        public long Turns { get; private set; }

        public long Taken { get; private set; }

        public long Expired { get; private set; }

        public void Add(Session session, long bytes, Task<CopyStatus> import)
        {
            _running.Enqueue((session, bytes, import));
            _bytes += bytes;
        }

        public async Task MakeRoomAsync(long bytes)
        {
            while (_running.Count >= MaxSessions || (_running.Count > 0 && _bytes + bytes > MaxBytes))
            {
                await EndFirstAsync();
            }
        }

        public async Task EndAsync()
        {
            while (_running.Count > 0)
            {
                await EndFirstAsync();
            }
        }

        /// <summary>Where one has failed, the others are not left to themselves.</summary>
        public async ValueTask DisposeAsync()
        {
            foreach (var (_, _, import) in _running)
            {
                await ((Task)import).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            }
        }

        private async Task EndFirstAsync()
        {
            var (session, bytes, import) = _running.Dequeue();
            _bytes -= bytes;
            switch (await import)
            {
                case CopyStatus.Created:
                    Imported++;
                    Turns += session.TurnCount;
                    break;
                case CopyStatus.IdTaken:
                    Taken++;
                    break;
                case CopyStatus.Expired:
                    Expired++;
                    break;
                case var status:
                    throw new InvalidDataException(
                        $"Session '{session.Id}' could not be imported ({status}); {Imported} sessions before it are.");
            }
        }
    }

    // The lines of an export, one after the other.
    private sealed class Lines(Stream input)
    {
        private readonly PipeReader _reader = PipeReader.Create(input, new StreamPipeReaderOptions(bufferSize: 1 << 16, leaveOpen: true));
        private ArchiveLine? _next;

        /// <summary>The number of the last line that was read.</summary>
        public long Number { get; private set; }

        /// <summary>The next line, which stays the next one until it is taken; <see langword="null"/> at the end.</summary>
        public async ValueTask<ArchiveLine?> NextAsync(CancellationToken cancellationToken)
        {
            while (_next is null)
            {
                var result = await _reader.ReadAsync(cancellationToken);
                var buffer = result.Buffer;
                if (buffer.PositionOf((byte)'\n') is { } end)
                {
                    Number++;
                    _next = Parse(buffer.Slice(0, end));
                    _reader.AdvanceTo(buffer.GetPosition(1, end));
                }
                else if (result.IsCompleted)
                {
                    var isEnd = buffer.IsEmpty;
                    if (!isEnd)
                    {
                        Number++;
                        _next = Parse(buffer);
                    }

                    _reader.AdvanceTo(buffer.End);
                    if (isEnd)
                    {
                        return null;
                    }
                }
                else
                {
                    _reader.AdvanceTo(buffer.Start, buffer.Length <= MaxLineBytes ? buffer.End
                        : throw new InvalidDataException($"Line {Number + 1} is too long for one that an export wrote."));
                }
            }

            return _next;
        }

        /// <summary>Takes the line.</summary>
        public void Take() => _next = null;

        /// <summary>Takes the turns that come next, as long as they are few.</summary>
        /// <returns>The turns, their bytes, and whether these are all that the session has.</returns>
        public async ValueTask<(List<ArchivedTurn> Turns, long Bytes, bool IsWhole)> TurnsOfAsync(
            int count, CancellationToken cancellationToken)
        {
            List<ArchivedTurn> turns = [];
            long bytes = 0;
            while (turns.Count < MaxTurnsAhead && bytes < MaxBytesAhead && await NextAsync(cancellationToken) is { Turn: { } line })
            {
                Take();
                turns.Add(line.ToTurn(turns is [.., var last] ? last.Turn : null));
                bytes += turns[^1].Turn.Bytes;
            }

            return (turns, bytes, turns.Count == count && await NextAsync(cancellationToken) is { Turn: null });
        }

        /// <summary>The turns that were taken already, and then those that come next.</summary>
        public async IAsyncEnumerable<ArchivedTurn> TurnsAsync(
            List<ArchivedTurn> taken, [EnumeratorCancellation] CancellationToken cancellationToken)
        {
            var last = taken is [.., var before] ? before.Turn : null;
            foreach (var turn in taken)
            {
                yield return turn;
            }

            while (await NextAsync(cancellationToken) is { Turn: { } line })
            {
                Take();
                var turn = line.ToTurn(last);
                last = turn.Turn;
                yield return turn;
            }
        }

        private ArchiveLine Parse(ReadOnlySequence<byte> line)
        {
            try
            {
                var reader = new Utf8JsonReader(line, new JsonReaderOptions { MaxDepth = ArchiveLineJson.Lines.Options.MaxDepth });
                return JsonSerializer.Deserialize(ref reader, ArchiveLineJson.Lines.ArchiveLine) ?? throw new JsonException("null");
            }
            catch (JsonException e)
            {
                throw new InvalidDataException($"Line {Number} is not one that an export wrote: {e.Message}");
            }
        }
    }
}
