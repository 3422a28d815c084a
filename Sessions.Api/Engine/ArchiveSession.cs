using System.Text.Encodings.Web;
using System.Text.Json;
using Sessions.Api.Domain;
using Sessions.Api.Storage;

namespace Sessions.Api.Engine;

/// <summary>A session, but for its turns.</summary>
internal sealed record ArchiveSession
{
    // Ours, beside the client's own keys, in a session as the API shows it.
    private static readonly string[] Reserved = ["query_count", "last_query", "last_agent_type", "created_from"];

    public required string SessionId { get; init; }

    public Guid? Key { get; init; }

    public string? Kind { get; init; }

    public string? UserId { get; init; }

    public required ApiTime CreatedAt { get; init; }

    public string? CreatedFrom { get; init; }

    public required ApiTime LastActivityAt { get; init; }

    public required ApiTime ExpiresAt { get; init; }

    public required long Version { get; init; }

    public int? Rewrites { get; init; }

    public RawJson? Metadata { get; init; }

    public int? Turns { get; init; }

    public int? ErrorCount { get; init; }

    public Utf8Text? LastError { get; init; }

    public ArchiveSummary? Summary { get; init; }

    public ArchiveKey? Idempotency { get; init; }

    /// <summary>A session as an earlier version's export of a user shows it: error count and last error are in here.</summary>
    public ArchiveContext? Context { get; init; }

    public static ArchiveSession From(ArchivedSession archived)
    {
        var session = archived.Session;
        return new()
        {
            SessionId = session.Id,
            Key = session.Key,
            Kind = session.Kind == SessionKind.Session ? null : session.Kind.Name(),
            UserId = session.UserId,
            CreatedAt = session.CreatedAt,
            CreatedFrom = session.CreatedFrom.Name(),
            LastActivityAt = session.LastActivityAt,
            ExpiresAt = session.ExpiresAt,
            Version = session.Revision.Version,
            Rewrites = session.Rewrites == 0 ? null : session.Rewrites,
            Metadata = RawJson.Of(session.Metadata),
            Turns = session.TurnCount,
            ErrorCount = session.ErrorCount == 0 ? null : session.ErrorCount,
            LastError = session.LastError,
            Summary = session.Summary is { } summary ? new ArchiveSummary(summary.Text, summary.CoversTurns) : null,
            Idempotency = ArchiveKey.From(archived.CreatedBy),
        };
    }

    /// <summary>The session that an export wrote.</summary>
    /// <exception cref="InvalidDataException">It wrote none such.</exception>
    public ArchivedSession ToSession()
    {
        var (metadata, shown) = Split();
        var turns = Turns ?? (shown.TryGetValue("query_count", out var count) && count.TryGetInt32(out var number) ? number : -1);
        var origin = CreatedFrom ?? (shown.TryGetValue("created_from", out var from)
            && from.ValueKind == JsonValueKind.String ? from.GetString()! : "");
        return turns < 0 || Version < 1 || Rewrites < 0 || ErrorCount < 0 || Key == Guid.Empty
            ? throw new InvalidDataException($"Session '{Error.Shorten(SessionId)}' is not one that an export wrote.")
            : new(new Session
            {
                Id = SessionId,
                Key = Key ?? SessionKey.New(),
                Kind = Kind is null ? SessionKind.Session : SessionKinds.Parse(Kind),
                UserId = UserId,
                CreatedAt = Time(CreatedAt),
                CreatedFrom = SessionOrigins.Parse(origin),
                LastActivityAt = Time(LastActivityAt),
                ExpiresAt = Time(ExpiresAt),

                // The version goes on; a state of another store is never taken for one of this.
                Revision = new Revision(Version, Random.Shared.NextInt64()),
                Rewrites = Rewrites ?? 0,
                Metadata = metadata,
                TurnCount = turns,
                ErrorCount = ErrorCount ?? Context?.ErrorCount ?? 0,
                LastError = LastError ?? Context?.LastError,
                Summary = Summary is null ? null : new Summary(Summary.Text, Summary.CoversTurns),
            }, ArchiveKey.To(Idempotency));
    }

    private static DateTimeOffset Time(ApiTime time) => Timestamps.FromMicroseconds(time.Value.ToMicroseconds());

    // The client's own keys, as they were written; and ours, where the export was one of the API.
    private (ReadOnlyMemory<byte> Own, Dictionary<string, JsonElement> Shown) Split()
    {
        Dictionary<string, JsonElement> shown = new(StringComparer.Ordinal);
        if (Metadata is not { } raw)
        {
            return (default, shown);
        }

        JsonElement metadata;
        try
        {
            metadata = StoredJson.IsMetadata(raw.Bytes.Span)
                ? JsonElement.Parse(raw.Bytes.Span, StoredJson.Once)
                : throw new JsonException();
        }
        catch (JsonException e)
        {
            throw new InvalidDataException(
                $"The metadata of session '{Error.Shorten(SessionId)}' is not an object that can be read.", e);
        }

        foreach (var name in Reserved)
        {
            if (metadata.TryGetProperty(name, out var value))
            {
                shown[name] = value;
            }
        }

        if (shown.Count == 0)
        {
            return (metadata.GetPropertyCount() == 0 ? default : raw.Bytes, shown);
        }

        using var own = new MemoryStream();
        using (var writer = new Utf8JsonWriter(own, new JsonWriterOptions { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))
        {
            writer.WriteStartObject();
            foreach (var property in metadata.EnumerateObject().Where(property => !shown.ContainsKey(property.Name)))
            {
                property.WriteTo(writer);
            }

            writer.WriteEndObject();
        }

        return (metadata.GetPropertyCount() == shown.Count ? default(ReadOnlyMemory<byte>) : own.ToArray(), shown);
    }
}

/// <summary>What a session as the API shows it has beside its previews.</summary>
internal sealed record ArchiveContext(int? ErrorCount, Utf8Text? LastError);
