using System.Runtime.CompilerServices;
using System.Text.Json;
using Sessions.ServiceDefaults;

namespace Sessions.Api;

/// <summary>Moves sessions between stores as NDJSON: a line for each session, followed by a line for each of its turns, and one at the end.</summary>
internal static class ArchiveCommands
{
    /// <summary>Writes all sessions of the configured store.</summary>
    public static async Task<string> ExportAsync(WebApplicationBuilder builder, string target, CancellationToken cancellationToken)
    {
        await using var app = await OpenAsync(builder, cancellationToken);
        await using var output = target == "-" ? Console.OpenStandardOutput() : PrivateFile.Create(target);
        return await ExportAsync(app.Services.GetRequiredService<ISessionStore>(), output, cancellationToken);
    }

    /// <summary>Adds the sessions of an export to the configured store.</summary>
    public static async Task<string> ImportAsync(WebApplicationBuilder builder, string source, CancellationToken cancellationToken)
    {
        await using var app = await OpenAsync(builder, cancellationToken);
        await using var input = source == "-" ? Console.OpenStandardInput() : File.OpenRead(source);
        return await ImportAsync(app.Services.GetRequiredService<ISessionStore>(), input, cancellationToken);
    }

    internal static async Task<string> ExportAsync(ISessionStore store, Stream output, CancellationToken cancellationToken)
    {
        await using var buffered = new BufferedStream(output, 1 << 16);
        long sessions = 0, turns = 0;
        await foreach (var entry in store.ExportAsync(cancellationToken))
        {
            _ = entry.Session is null ? turns++ : sessions++;
            await WriteAsync(buffered, ArchiveLine.From(entry), cancellationToken);
        }

        await WriteAsync(buffered, new ArchiveLine { End = new ArchiveEnd(sessions, turns) }, cancellationToken);
        return $"{sessions} sessions with {turns} turns are exported.";
    }

    internal static async Task<string> ImportAsync(ISessionStore store, Stream input, CancellationToken cancellationToken)
    {
        using var lines = new ArchiveReader(input);
        long imported = 0, turns = 0, taken = 0, expired = 0;
        while (await lines.NextAsync(cancellationToken) is { Session: { } session })
        {
            lines.Take();
            var archived = session.ToSession();
            switch (await store.ImportAsync(archived, TurnsAsync(lines, cancellationToken), cancellationToken))
            {
                case ImportStatus.Imported:
                    imported++;
                    turns += archived.Session.TurnCount;
                    break;
                case ImportStatus.IdTaken:
                    taken++;
                    break;
                default:
                    expired++;
                    break;
            }

            // Turns that the store had no use for.
            await foreach (var _ in TurnsAsync(lines, cancellationToken))
            {
            }
        }

        var summary = $"{imported} sessions with {turns} turns are imported; {taken} were there already, {expired} have expired.";
        return (await lines.NextAsync(cancellationToken))?.End is { } end && end.Sessions == imported + taken + expired
            ? summary
            : throw new InvalidDataException($"{summary} The file ends too early at line {lines.Number}: it is not the whole export.");
    }

    private static async IAsyncEnumerable<ArchivedTurn> TurnsAsync(ArchiveReader lines, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        while (await lines.NextAsync(cancellationToken) is { Turn: { } turn })
        {
            lines.Take();
            yield return turn.ToTurn();
        }
    }

    private static async Task WriteAsync(Stream output, ArchiveLine line, CancellationToken cancellationToken)
    {
        await output.WriteAsync(JsonSerializer.SerializeToUtf8Bytes(line, ArchiveJson.Lines.ArchiveLine), cancellationToken);
        output.WriteByte((byte)'\n');
    }

    private static async Task<WebApplication> OpenAsync(WebApplicationBuilder builder, CancellationToken cancellationToken)
    {
        builder.AddSessions();
        var app = builder.Build();
        await Encryption.CheckAsync(app.Services, cancellationToken);
        return app.Services.GetRequiredService<SessionSettings>().StorageType == StorageType.Memory
            ? throw new SettingsException("sessions.storage_type is memory: such sessions are in a server's own memory, where no command can get at them.")
            : app;
    }
}
