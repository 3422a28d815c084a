using System.Globalization;
using System.Text.Json;
using Microsoft.AspNetCore.WebUtilities;
using Sessions.Api.Domain;
using Sessions.Api.Http.Auth;

namespace Sessions.Api.Http.Native;

/// <summary>The query parameters that narrow a user's list of sessions.</summary>
internal static class SessionFilter
{
    private const string MetadataPrefix = "metadata.";
    private const int MaxConditions = 16;

    private const string Origins = "must be one of api, query, fork";

    /// <summary>Reads the conditions: all must hold. <see langword="null"/> where there are none.</summary>
    /// <param name="query">As it was sent: the framework's own collection takes keys of metadata for one that differ in case alone.</param>
    /// <param name="ofAll">Whether the list is that of all users, which takes user_id; that one is no condition.</param>
    /// <exception cref="ProblemException">A parameter is unknown, or its value not allowed.</exception>
    public static Func<Session, bool>? Read(QueryString query, bool ofAll = false)
    {
        List<Func<Session, bool>> conditions = [];
        foreach (var parameter in new QueryStringEnumerable(query.Value))
        {
            var name = parameter.DecodeName().ToString();
            if (name is not ("limit" or "after" or "order") && !(ofAll && name == SessionOwner.Parameter))
            {
                conditions.Add(Condition(name, parameter.DecodeValue().ToString()));
            }
        }

        return conditions.Count switch
        {
            0 => null,
            > MaxConditions =>
                throw new DomainException(Error.InvalidField("query string", $"must have at most {MaxConditions} conditions")),
            _ => session => conditions.TrueForAll(condition => condition(session)),
        };
    }

    private static Func<Session, bool> Condition(string name, string value)
    {
        switch (name)
        {
            // It was a time before there was created_after, and is understood as one still.
            case "created_from" when ApiTime.TryParse(value, out var createdFrom):
                return session => session.CreatedAt >= createdFrom;
            case "created_from" or "metadata.created_from":
                var origin = Origin(name, value);
                return session => session.CreatedFrom == origin;
            case "created_after":
                var createdAfter = Time(name, value);
                return session => session.CreatedAt > createdAfter;
            case "created_before":
                var createdBefore = Time(name, value);
                return session => session.CreatedAt < createdBefore;
            case "active_after":
                var activeAfter = Time(name, value);
                return session => session.LastActivityAt > activeAfter;
            case "active_before":
                var activeBefore = Time(name, value);
                return session => session.LastActivityAt < activeBefore;
            case "expires_after":
                var expiresAfter = Time(name, value);
                return session => session.ExpiresAt > expiresAfter;
            case "expires_before":
                var expiresBefore = Time(name, value);
                return session => session.ExpiresAt < expiresBefore;
            case "failed":
                var hasFailed = value is "true" or "false"
                    ? value == "true"
                    : throw new DomainException(Error.InvalidField(name, "must be true or false"));
                return session => session.ErrorCount > 0 == hasFailed;
            case "metadata.query_count":
                var count = int.TryParse(value, NumberStyles.None, CultureInfo.InvariantCulture, out var number)
                    ? number
                    : throw new DomainException(Error.InvalidField(name, "must be a whole number"));
                return session => session.TurnCount == count;
            case "metadata.last_query":
                Utf8Text query = value;
                return session => SessionMetadata.ShortQuery(session) == query;
            case "agent_type" or "metadata.last_agent_type":
                return session => session.LastTurn?.AgentType == value;
            case var _ when name.StartsWith(MetadataPrefix, StringComparison.Ordinal) && name.Length > MetadataPrefix.Length:
                var key = name[MetadataPrefix.Length..];
                return session => SessionMetadata.OwnKeys(session) is { } own && own.TryGetValue(key, out var held) && Text(held) == value;
            default:
                throw new DomainException(Error.InvalidField(Error.Shorten(name),
                    "is not a parameter of this list; allowed: limit, after, order, created_from, created_after, created_before, "
                    + "active_after, active_before, "
                    + "expires_after, expires_before, agent_type, failed, metadata.<key>"));
        }
    }

    private static SessionOrigin Origin(string name, string value)
    {
        foreach (var origin in Enum.GetValues<SessionOrigin>())
        {
            if (origin.Name() == value)
            {
                return origin;
            }
        }

        throw new DomainException(Error.InvalidField(name, Origins));
    }

    private static DateTimeOffset Time(string name, string value) => ApiTime.TryParse(value, out var time)
        ? time
        : throw new DomainException(
            Error.InvalidField(name, "must be a time as in RFC 3339, such as 2026-01-31T12:00:00Z (a '+' is written %2B)"));

    private static string Text(JsonElement value) => value.ValueKind == JsonValueKind.String ? value.GetString()! : value.GetRawText();
}
