using Microsoft.AspNetCore.Http.Features;

namespace Sessions.Api.Http;

/// <summary>
/// The address of a request as it was sent. The framework decodes it before anything of ours sees it, and not always so that it can be
/// read again: it leaves <c>%2F</c> as it is beside a decoded <c>%25</c>, and decodes <c>%2F</c> as well where the target is a whole URL,
/// as proxies are sent.
/// </summary>
internal static class RequestTarget
{
    /// <summary>Before routing: gives a target that is a whole URL the path that it would have had without scheme and host.</summary>
    public static Task UsePath(HttpContext context, RequestDelegate next)
    {
        var target = AsSent(context);
        if (target.Length > 0 && target[0] != '/' && target.Contains("://", StringComparison.Ordinal))
        {
            context.Request.Path = "/" + string.Join('/', Segments(target).Select(Decode));
        }

        return next(context);
    }

    /// <summary>One segment of the path, decoded whole.</summary>
    /// <param name="context">The request.</param>
    /// <param name="index">Which one, from 0.</param>
    /// <param name="routed">The same segment as the framework has decoded it.</param>
    /// <exception cref="ProblemException">It is another one.</exception>
    public static string Segment(HttpContext context, int index, string routed)
    {
        // Only a '%' can mean two things.
        if (!routed.Contains('%', StringComparison.Ordinal))
        {
            return routed;
        }

        var segments = Segments(AsSent(context));
        return index < segments.Count && Decode(segments[index]) == routed
            ? Uri.UnescapeDataString(segments[index])
            : throw new ProblemException(Problem.FromStatus(StatusCodes.Status400BadRequest));
    }

    private static string AsSent(HttpContext context) => context.Features.Get<IHttpRequestFeature>()?.RawTarget ?? "";

    // Without scheme, host and query, and without the segments that only lead from one to another.
    private static List<string> Segments(string target)
    {
        var path = target.AsSpan();
        path = path.IndexOfAny('?', '#') is var end and >= 0 ? path[..end] : path;
        if (path.IsEmpty || path[0] != '/')
        {
            var host = path.IndexOf("://");
            path = host < 0 ? [] : path[(host + 3)..];
            path = path.IndexOf('/') is var start and >= 0 ? path[start..] : [];
        }

        List<string> segments = [];
        var last = "";
        foreach (var range in path.IsEmpty ? default : path[1..].Split('/'))
        {
            last = path[1..][range].ToString();
            switch (Decode(last))
            {
                case ".":
                    break;
                case "..":
                    segments.RemoveRange(Math.Max(0, segments.Count - 1), Math.Min(1, segments.Count));
                    break;
                default:
                    segments.Add(last);
                    break;
            }
        }

        // "/a/." is "/a/".
        if (Decode(last) is "." or "..")
        {
            segments.Add("");
        }

        return segments;
    }

    // As the framework does it.
    private static string Decode(string segment) => Uri.UnescapeDataString(
        segment.Replace("%2F", "%252F", StringComparison.Ordinal).Replace("%2f", "%252f", StringComparison.Ordinal));
}
