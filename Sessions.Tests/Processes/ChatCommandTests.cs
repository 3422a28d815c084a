using System.Diagnostics;
using System.Net.Http.Headers;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;

namespace Sessions.Tests.Processes;

/// <summary>The command <c>chat</c>, as its users run it.</summary>
public sealed class ChatCommandTests
{
    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Fact]
    public async Task It_asks_and_tells_and_goes_on_where_it_was()
    {
        await using var server = SessionsServer.Start([]);

        var (code, said, other) = await RunAsync(server, ["--user", "ada", "--thread", "demo"], "I am a Python programmer", "",
            "What tools do you recommend?");

        Assert.Equal(0, code);
        Assert.Equal(
            """
            You said: "I am a Python programmer". Nothing came before it in this session; I will remember it.

            To "What tools do you recommend?" I can say what you told me before: "I am a Python programmer".
            """.ReplaceLineEndings("\n"),
            said.Trim());
        Assert.Contains("There is no session 'demo' yet; it begins now.", other, StringComparison.Ordinal);
        Assert.Equal("ada", (string?)(await server.GetAsync("/sessions/demo")).Json["user_id"]);

        (_, said, _) = await RunAsync(server, ["--user", "ada", "--thread", "demo"], "/exit", "not asked any more");
        Assert.StartsWith("ada> I am a Python programmer\nYou said:", said, StringComparison.Ordinal);
        Assert.DoesNotContain("not asked", said, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Another_session_and_an_agent_are_for_the_choosing()
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        await using var server = SessionsServer.Start([.. model.Agent("model")]);

        var (code, said, other) = await RunAsync(server, ["--agent", "model"], "one", "/new", "two");

        Assert.Equal((0, "echo one\n\necho two"), (code, said.Trim()));
        Assert.Equal(2, other.Split("Session ").Length - 1);
    }

    [Fact]
    public async Task Tools_that_run_are_shown_and_failures_do_not_end_it()
    {
        await using var model = await ScriptedModel.StartAsync();
        await using var tools = await TestTools.StartAsync();
        await using var server = SessionsServer.Start([.. model.Agent("model"), .. tools.Of("model")]);

        var (code, said, other) = await RunAsync(server, ["--agent", "model", "--thread", "a"], "call echo 1", "fail", "long");

        Assert.Equal(0, code);
        Assert.StartsWith("after 1 calls: echo 1\n", said, StringComparison.Ordinal);
        Assert.Contains("""[tools/echo {"round":1}]""", other, StringComparison.Ordinal);
        Assert.Contains("The agent's provider answered with status 500.", other, StringComparison.Ordinal);
        Assert.Contains("The answer is incomplete: max_output_tokens.", other, StringComparison.Ordinal);
    }

    [Fact]
    public async Task What_cannot_be_is_said_in_a_sentence()
    {
        await using var server = SessionsServer.Start([]);

        var (code, _, other) = await RunAsync(server, ["--agent", "nobody"], "hello");
        Assert.Equal(0, code);
        Assert.Contains("agent_type: 'nobody' is not known; allowed: advanced.", other, StringComparison.Ordinal);

        (code, _, other) = await RunAsync(null, ["--url", "http://127.0.0.1:1"], "hello");
        Assert.Equal(1, code);
        Assert.Contains("http://127.0.0.1:1/ can't be reached (ConnectionError); is the server running there?", other,
            StringComparison.Ordinal);
        (code, _, other) = await RunAsync(null, ["--url", "nowhere"], "hello");
        Assert.Equal(1, code);
        Assert.Contains("--url: 'nowhere' is not allowed", other, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("/base")]
    [InlineData("/base/")]
    public async Task A_server_may_have_a_path_of_its_own_behind_a_proxy(string path)
    {
        await using var server = SessionsServer.Start([]);
        await using var proxy = await ProxyAsync(server, "/base");

        var (code, said, other) = await RunAsync(null, ["--url", proxy.Urls.Single() + path, "--thread", "demo"], "hello");

        Assert.Equal(0, code);
        Assert.StartsWith("You said: \"hello\"", said, StringComparison.Ordinal);
        Assert.Contains("There is no session 'demo' yet; it begins now.", other, StringComparison.Ordinal);
    }

    private static async Task<WebApplication> ProxyAsync(SessionsServer server, string path)
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.UseUrls("http://127.0.0.1:0");
        var proxy = builder.Build();
        proxy.Map($"{path}/{{**rest}}", async (HttpContext http, string rest) =>
        {
            using var request = new HttpRequestMessage(new HttpMethod(http.Request.Method), $"/{rest}{http.Request.QueryString}");
            if (http.Request.ContentType is { } type)
            {
                request.Content = new StreamContent(http.Request.Body);
                request.Content.Headers.ContentType = MediaTypeHeaderValue.Parse(type);
            }

            using var answer = await server.Client.SendAsync(request, Cancel);
            http.Response.StatusCode = (int)answer.StatusCode;
            http.Response.ContentType = answer.Content.Headers.ContentType?.ToString();
            await answer.Content.CopyToAsync(http.Response.Body, Cancel);
        });
        await proxy.StartAsync(Cancel);
        return proxy;
    }

    private static async Task<(int Code, string Said, string Other)> RunAsync(
        SessionsServer? server, IEnumerable<string> options, params string[] lines)
    {
        IEnumerable<string> where = server is null ? [] : ["--url", server.Client.BaseAddress!.ToString()];
        using var process = Process.Start(new ProcessStartInfo("dotnet", [ServiceProcess.ApiAssembly, "chat", .. where, .. options])
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        })!;
        var (said, other) = (process.StandardOutput.ReadToEndAsync(Cancel), process.StandardError.ReadToEndAsync(Cancel));
        await process.StandardInput.WriteAsync(string.Join('\n', lines).AsMemory(), Cancel);
        process.StandardInput.Close();
        await process.WaitForExitAsync(Cancel).WaitAsync(TimeSpan.FromMinutes(2), Cancel);
        return (process.ExitCode, await said, await other);
    }
}
