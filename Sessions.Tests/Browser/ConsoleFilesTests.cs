using System.Text.RegularExpressions;

namespace Sessions.Tests.Browser;

/// <summary>The console's files as they are served.</summary>
public sealed partial class ConsoleFilesTests
{
    private static readonly (string, string) Browser = ("Accept", "text/html,application/xhtml+xml,*/*;q=0.8");

    private static readonly string Folder = Repository.File("Sessions.Api", "Http", "WebConsole", "Files");

    [Fact]
    public async Task The_root_leads_browsers_there_and_tells_clients_all_operations()
    {
        await using var server = SessionsServer.Start([]);
        using var client = new HttpClient(new HttpClientHandler { AllowAutoRedirect = false }) { BaseAddress = server.Client.BaseAddress };
        client.DefaultRequestHeaders.Add(Browser.Item1, Browser.Item2);

        using var home = await client.GetAsync(new Uri("/", UriKind.Relative), TestContext.Current.CancellationToken);
        using var console = await client.GetAsync(new Uri("/console", UriKind.Relative), TestContext.Current.CancellationToken);

        Assert.Equal((302, "console/"), ((int)home.StatusCode, home.Headers.Location!.ToString()));
        Assert.Equal((302, "console/"), ((int)console.StatusCode, console.Headers.Location!.ToString()));
        Assert.Equal("Accept", home.Headers.Vary.Single());
        var told = (await server.GetAsync("/")).Json["operations"]!.AsArray()
            .Select(operation => $"{operation!["method"]} {operation["path"]}");
        var paths = (await server.GetAsync("/openapi/v1.json")).Json["paths"]!.AsObject();
        Assert.Equal(
            paths.SelectMany(path => path.Value!.AsObject().Select(operation => $"{operation.Key.ToUpperInvariant()} {path.Key}"))
                .Order(StringComparer.Ordinal),
            told.Order(StringComparer.Ordinal));
    }

    [Fact]
    public async Task Turned_off_there_is_none()
    {
        await using var server = SessionsServer.Start([("console:enabled", "false")]);

        (await server.GetAsync("/console")).IsProblem(404, "route_not_found");
        (await server.GetAsync("/console/main.js")).IsProblem(404, "route_not_found");
        Assert.Equal("Sessions", (string?)(await server.GetAsync("/", Browser)).Json["name"]);
    }

    [Theory]
    [InlineData(null, false)]
    [InlineData("true", true)]
    public async Task What_is_published_has_none_unless_it_is_asked_for(string? asked, bool isThere)
    {
        // A process without an environment's name, as what is published runs.
        await using var server = ServiceProcess.Api(asked is null ? [] : [("CONSOLE__ENABLED", asked)]);
        using var client = new HttpClient { BaseAddress = await server.AddressAsync() };

        using var page = await client.GetAsync(new Uri("/console/", UriKind.Relative), TestContext.Current.CancellationToken);

        Assert.Equal(isThere, page.IsSuccessStatusCode);
        await server.SaysAsync("Application started");
        Assert.Equal(isThere, server.Lines.Any(line => line.Contains("console:", StringComparison.Ordinal)));
    }

    [Fact]
    public async Task Every_file_is_served_under_a_strict_policy_and_asked_for_again()
    {
        await using var server = SessionsServer.Start([]);

        foreach (var file in Directory.EnumerateFiles(Folder).Select(Path.GetFileName))
        {
            var answer = await server.GetAsync($"/console/{file}");
            Assert.Equal((200, await File.ReadAllTextAsync(Path.Combine(Folder, file!), TestContext.Current.CancellationToken)),
                (answer.Status, answer.Text));
            var policy = answer.Headers["Content-Security-Policy"];
            Assert.Contains("default-src 'none'; script-src 'self'; style-src 'self';", policy, StringComparison.Ordinal);
            Assert.Contains("require-trusted-types-for 'script'; trusted-types 'none'", policy, StringComparison.Ordinal);
            Assert.DoesNotContain("unsafe", policy, StringComparison.Ordinal);
            Assert.Equal("nosniff", answer.Headers["X-Content-Type-Options"]);
            Assert.Equal("no-cache", answer.Headers["Cache-Control"]);

            // A proxy that compresses makes the tag a weak one; and a browser may name several.
            foreach (var tags in (string[])["{0}", "W/{0}", "\"other\", {0}", "*"])
            {
                var known = await server.GetAsync(
                    $"/console/{file}", ("If-None-Match", tags.Replace("{0}", answer.Headers["ETag"], StringComparison.Ordinal)));
                Assert.Equal((304, "", policy), (known.Status, known.Text, known.Headers["Content-Security-Policy"]));
            }

            Assert.Equal(200, (await server.GetAsync($"/console/{file}", ("If-None-Match", "\"other\""))).Status);
        }

        (await server.GetAsync("/console/nothing.js")).IsProblem(404, "route_not_found");
        (await server.GetAsync("/console/..%2fappsettings.json")).IsProblem(404, "route_not_found");
    }

    [Fact]
    public void Files_are_small_and_nothing_in_them_makes_markup_or_leads_elsewhere()
    {
        var files = Directory.EnumerateFiles(Folder).ToList();
        var names = files.Select(Path.GetFileName).ToList();

        Assert.All(files, file =>
        {
            var text = File.ReadAllText(file);
            Assert.InRange(text.Count(c => c == '\n'), 1, 300);
            Assert.DoesNotMatch(Unsafe, text);
            Assert.All(Imported.Matches(text), import => Assert.Contains(import.Groups[1].Value, names));
        });
    }

    [GeneratedRegex(@"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|DOMParser|createContextualFragment"
        + @"|style=|(?:src|href)=""https?:")]
    private static partial Regex Unsafe { get; }

    [GeneratedRegex(@"(?:from|import|import\()\s*\(?""\./([^""]+)""")]
    private static partial Regex Imported { get; }
}
