using System.Collections.Frozen;
using Microsoft.AspNetCore.Http.HttpResults;
using Sessions.ServiceDefaults;

namespace Sessions.Api.Http.WebConsole;

/// <summary>
/// <c>/console</c>: the conversations, in a browser. Its files have no data; what they show they ask the API for, as any client.
/// </summary>
internal static class ConsoleApi
{
    private const string Page = "index.html";

    // Nothing but the console's own files and answers of this server; no text can become markup or a script, whatever a page's code does.
    private const string Policy =
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        + "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

    /// <summary>Registers it.</summary>
    public static WebApplicationBuilder AddConsole(this WebApplicationBuilder builder)
    {
        builder.AddSettings<ConsoleSettings>(ConsoleSettings.Section);
        return builder;
    }

    /// <summary>Maps it, where it is on.</summary>
    public static WebApplication MapConsole(this WebApplication app)
    {
        if (!app.Services.GetRequiredService<ConsoleSettings>().IsOnIn(app.Environment))
        {
            return app;
        }

        // Read when the first page is asked for, not at the start.
        var files = new Lazy<FrozenDictionary<string, ConsoleFile>>(ConsoleFile.ReadAll);
        var console = app.MapGroup("/console").AllowAnonymous().ExcludeFromDescription();

        // With the slash, so that its files are found beside it; relative, as there may be a proxy with a path of its own.
        console.MapGet("", (HttpRequest request) => request.Path.Value!.EndsWith('/')
            ? (IResult)Send(request.HttpContext, files.Value[Page])
            : TypedResults.Redirect("console/"));
        console.MapGet("/{file}", IResult (string file, HttpContext http) => files.Value.TryGetValue(file, out var found)
            ? Send(http, found)
            : Problem.FromStatus(StatusCodes.Status404NotFound));
        return app;
    }

    /// <summary>Whether a request is a browser's that is to show a page: it names HTML and does not name JSON.</summary>
    public static bool WantsPage(HttpRequest request) =>
        request.Headers.Accept.ToString() is var accept && accept.Contains("text/html", StringComparison.OrdinalIgnoreCase)
            && !accept.Contains("application/json", StringComparison.OrdinalIgnoreCase);

    private static FileContentHttpResult Send(HttpContext http, ConsoleFile file)
    {
        var headers = http.Response.Headers;
        headers.ContentSecurityPolicy = Policy;
        headers["Cross-Origin-Opener-Policy"] = "same-origin";
        headers["Cross-Origin-Resource-Policy"] = "same-origin";

        // Kept, and asked for again each time: a server that was updated is never met by the files of the one before.
        headers.CacheControl = "no-cache";
        return TypedResults.Bytes(file.Bytes, file.ContentType, entityTag: file.ETag);
    }
}
