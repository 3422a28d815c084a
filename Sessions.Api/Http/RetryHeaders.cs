using System.Globalization;

namespace Sessions.Api.Http;

/// <summary>What a failed request tells clients that repeat by themselves.</summary>
internal static class RetryHeaders
{
    /// <summary>Sent by OpenAI, obeyed by its clients and many others.</summary>
    public const string ShouldRetry = "x-should-retry";

    /// <summary>Sets them.</summary>
    /// <param name="headers">Where.</param>
    /// <param name="after">When it is worth trying again, if that is known.</param>
    /// <param name="should"><see langword="false"/>: a repeat can't mend it.</param>
    public static void Set(IHeaderDictionary headers, TimeSpan? after, bool? should)
    {
        if (after is { } wait)
        {
            headers.RetryAfter = Math.Max(1, (int)Math.Ceiling(wait.TotalSeconds)).ToString(CultureInfo.InvariantCulture);
        }

        if (should is { } worth)
        {
            headers[ShouldRetry] = worth ? "true" : "false";
        }
    }
}
