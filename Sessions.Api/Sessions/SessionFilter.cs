using System.Globalization;
using System.Text.Json;
using Microsoft.Extensions.Primitives;

namespace Sessions.Api;

/// <summary>The query parameters that narrow a user's list of sessions.</summary>
internal static class SessionFilter
{
    private const string MetadataPrefix = "metadata.";
    private const int MostConditions = 16;

    /// <summary>Reads the conditions: all must hold. <see langword="null"/> where there are none.</summary>
    /// <exception cref="ProblemException">A parameter is unknown, or its value not allowed.</exception>
    public static Func<Session, bool>? Read(IQueryCollection query)
    {
        List<Func<Session, bool>> conditions = [];
        foreach (var (name, values) in query)
        {
            if (name is "limit" or "after" or "order")
            {
                continue;
            }

            foreach (var value in values)
            {
                conditions.Add(Condition(name, value ?? ""));
            }
        }

        return conditions.Count switch
        {
            0 => null,
            > MostConditions => throw new ProblemException(Problem.InvalidField("query string", $"must have at most {MostConditions} conditions")),
            _ => session => conditions.TrueForAll(condition => condition(session)),
        };
    }

    private static Func<Session, bool> Condition(string name, string value)
    {
        switch (name)
        {
            case "created_from" when Enum.GetValues<SessionOrigin>().Any(origin => SessionMetadata.Name(origin) == value):
                return session => SessionMetadata.Name(session.CreatedFrom) == value;
            case "created_from":
                var createdFrom = Time(name, value, "must be a time (RFC 3339), or one of api, query, fork");
                return session => session.CreatedAt >= createdFrom;
            case "created_before":
                var createdBefore = Time(name, value);
                return session => session.CreatedAt < createdBefore;
            case "active_after":
                var activeAfter = Time(name, value);
                return session => session.LastActivityAt > activeAfter;
            case "active_before":
                var activeBefore = Time(name, value);
                return session => session.LastActivityAt < activeBefore;
            case "metadata.last_agent_type":
                return session => session.LastTurn?.AgentType == value;
            case "metadata.created_from":
                return session => SessionMetadata.Name(session.CreatedFrom) == value;
            case var _ when name.StartsWith(MetadataPrefix, StringComparison.Ordinal) && name.Length > MetadataPrefix.Length:
                var key = name[MetadataPrefix.Length..];
                return session => SessionMetadata.OwnKeys(session) is { } own && own.TryGetValue(key, out var held) && Text(held) == value;
            default:
                throw new ProblemException(Problem.InvalidField(
                    Problem.Shorten(name), "is no parameter of this list; allowed: limit, after, order, created_from, created_before, active_after, active_before, metadata.<key>"));
        }
    }

    private static DateTimeOffset Time(string name, StringValues value, string rule = "must be a time (RFC 3339), such as 2026-01-31T12:00:00Z") =>
        DateTimeOffset.TryParse(value, CultureInfo.InvariantCulture, DateTimeStyles.AssumeUniversal, out var time)
            ? time
            : throw new ProblemException(Problem.InvalidField(name, rule));

    private static string Text(JsonElement value) => value.ValueKind == JsonValueKind.String ? value.GetString()! : value.GetRawText();
}
