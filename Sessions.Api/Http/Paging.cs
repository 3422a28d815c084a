using System.Buffers.Text;
using System.Globalization;
using System.Text;
using Sessions.Api.Domain;
using Sessions.Api.Engine;
using Sessions.Api.Storage;

namespace Sessions.Api.Http;

/// <summary>The query parameters that every list takes: <c>limit</c>, <c>after</c>, <c>order</c>.</summary>
/// <param name="Limit">Entries on the page.</param>
/// <param name="After">Where it starts.</param>
/// <param name="Descending">In which direction.</param>
internal readonly record struct Paging(int Limit, PageCursor? After, bool Descending)
{
    /// <summary>Reads the parameters of a list of sessions: newest first.</summary>
    /// <exception cref="DomainException">One of them is not allowed.</exception>
    public static Paging OfSessions(IQueryCollection query, LimitSettings limits) =>
        Read(query, limits, descendingByDefault: true, isOfList: cursor => cursor.Id.Length > 0);

    /// <summary>Reads the parameters of a list of turns: oldest first. A turn has no id beside its number.</summary>
    /// <exception cref="DomainException">One of them is not allowed.</exception>
    public static Paging OfTurns(IQueryCollection query, LimitSettings limits) =>
        Read(query, limits, descendingByDefault: false, isOfList: cursor => cursor.Id.Length == 0);

    private static Paging Read(IQueryCollection query, LimitSettings limits, bool descendingByDefault, Predicate<PageCursor> isOfList)
    {
        var limit = Math.Min(limits.PageSize, limits.PageSizeMax);
        if (query.TryGetValue("limit", out var limitText)
            && (!int.TryParse(limitText, NumberStyles.None, CultureInfo.InvariantCulture, out limit)
                || limit < 1 || limit > limits.PageSizeMax))
        {
            // A number that is too large to be read is one all the same.
            var rule = $"must be a whole number from 1 to {limits.PageSizeMax}";
            throw new DomainException(limitText.ToString() is { Length: > 0 } digits && digits.All(char.IsAsciiDigit)
                ? Error.LimitExceeded("limit", rule, "limits.page_size_max")
                : Error.InvalidField("limit", rule));
        }

        PageCursor? after = null;
        if (query.TryGetValue("after", out var afterText))
        {
            // One of another list would be read as some other place of this one.
            after = Decode(afterText.ToString()) is { } cursor && isOfList(cursor) ? cursor
                : throw new DomainException(Error.InvalidField("after", "must be the 'next' of an earlier page of this list"));
        }

        var descending = query["order"].ToString() switch
        {
            "" => descendingByDefault,
            "asc" => false,
            "desc" => true,
            _ => throw new DomainException(Error.InvalidField("order", "must be asc or desc")),
        };
        return new(limit, after, descending);
    }

    /// <summary>A cursor as clients see it: opaque.</summary>
    public static string? Encode(PageCursor? cursor) => cursor is { } place
        ? Base64Url.EncodeToString(Encoding.UTF8.GetBytes(string.Create(CultureInfo.InvariantCulture, $"{place.Position}:{place.Id}")))
        : null;

    private static PageCursor? Decode(string text)
    {
        if (text.Length is 0 or > 512 || !Base64Url.IsValid(text))
        {
            return null;
        }

        var cursor = Encoding.UTF8.GetString(Base64Url.DecodeFromChars(text));
        var colon = cursor.IndexOf(':', StringComparison.Ordinal);
        return colon > 0 && long.TryParse(cursor.AsSpan(0, colon), NumberStyles.None, CultureInfo.InvariantCulture, out var position)
            && cursor[(colon + 1)..] is var id && (id.Length == 0 || Identifiers.IsSessionId(id))
            ? new PageCursor(position, id)
            : null;
    }
}
