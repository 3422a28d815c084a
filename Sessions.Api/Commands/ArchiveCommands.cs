using System.CommandLine;
using System.IO.Pipelines;
using Sessions.Api.Domain;
using Sessions.Api.Engine;
using Sessions.Api.Storage;

namespace Sessions.Api.Commands;

/// <summary>Moves sessions between stores as NDJSON: a line for each session, followed by a line for each of its turns, and one at the
/// end.</summary>
internal static class ArchiveCommands
{
    /// <summary>Writes all sessions of the configured store.</summary>
    public static Command Export()
    {
        Argument<string> target = new("FILE") { Description = "Where to write them; it must not exist yet; - for the standard output" };
        return new Command("export", "Writes all sessions as NDJSON") { target }.Runs(async (input, cancellationToken) =>
        {
            await using var app = StoreCommands.Open(input);
            await app.Services.CheckSealingAsync(cancellationToken);
            await using var output = input.Get(target) == "-" ? Console.OpenStandardOutput() : PrivateFile.Create(input.Get(target));
            var written = await Archive.ExportAsync(
                app.Services.GetRequiredService<SessionLog>(), null, PipeWriter.Create(output), cancellationToken);
            return $"Sessions exported: {written.Sessions}; turns: {written.Turns}.";
        });
    }

    /// <summary>Adds the sessions of an export to the configured store.</summary>
    public static Command Import()
    {
        Argument<string> source = new("FILE") { Description = "What 'export' has written; - for the standard input" };
        Command command = new("import", "Adds the sessions that an export wrote, but for those that are there already") { source };
        return command.Runs(async (input, cancellationToken) =>
        {
            await using var read = input.Get(source) == "-" ? Console.OpenStandardInput() : File.OpenRead(input.Get(source));
            await using var app = StoreCommands.Open(input, mayCreate: true);
            await app.Services.CheckSealingAsync(cancellationToken);
            return await Archive.ImportAsync(app.Services.GetRequiredService<SessionLog>(), read, Check, cancellationToken);
        });
    }

    // What no route could ever ask for, or remove, is not taken in.
    private static void Check(Session session)
    {
        if (session.Kind == SessionKind.Session && !Identifiers.IsSessionId(session.Id))
        {
            throw new InvalidDataException($"'{session.Id}' is not a session id.");
        }

        if (session.UserId is { } user && !Identifiers.IsUserId(user))
        {
            throw new InvalidDataException($"Session '{session.Id}': '{user}' is not a user id.");
        }
    }
}
