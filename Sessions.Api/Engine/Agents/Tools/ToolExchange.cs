using System.Text;
using ModelContextProtocol.Protocol;

namespace Sessions.Api.Engine.Agents.Tools;

/// <summary>One call of a tool, for the HTTP handler that it is sent by: the library between them passes nothing on.</summary>
internal sealed class ToolExchange : IDisposable
{
    private static readonly AsyncLocal<ToolExchange?> Flowing = new();

    private readonly CancellationTokenSource _tooLarge = new();

    /// <summary>The one that is being made.</summary>
    public static ToolExchange? Current
    {
        get => Flowing.Value;
        set => Flowing.Value = value;
    }

    /// <summary>Cancelled when more comes back than may.</summary>
    public CancellationToken TooLarge => _tooLarge.Token;

    /// <summary>More comes back than may.</summary>
    public void Exceed() => _tooLarge.Cancel();

    public void Dispose() => _tooLarge.Dispose();
}

/// <summary>Reads no more of an answer of a tool server than allowed.</summary>
/// <param name="maxBytes">How many bytes it may have.</param>
internal sealed class ToolServerHandler(int maxBytes) : DelegatingHandler
{
    protected override async Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
    {
        var call = ToolExchange.Current;
        if (request.Content is { } asked)
        {
            // With its length: many servers and gateways take no body that comes in chunks.
            await asked.LoadIntoBufferAsync(cancellationToken);
        }

        var response = await base.SendAsync(request, cancellationToken);
        var body = await response.Content.ReadAsStreamAsync(cancellationToken);
        var content = new StreamContent(new BoundedStream(body, maxBytes, call is null ? null : call.Exceed));
        foreach (var (name, values) in response.Content.Headers)
        {
            content.Headers.TryAddWithoutValidation(name, values);
        }

        response.Content = content;
        return response;
    }
}

/// <summary>Results of tools as texts, which is what models are told and items keep.</summary>
internal static class ToolResults
{
    /// <summary>All that a result says; what is no text is named.</summary>
    public static string TextOf(CallToolResult result)
    {
        StringBuilder text = new();
        foreach (var block in result.Content)
        {
            text.Append(text.Length == 0 ? "" : "\n").Append(block switch
            {
                TextContentBlock said => said.Text,
                EmbeddedResourceBlock { Resource: TextResourceContents resource } => resource.Text,
                ResourceLinkBlock link => link.Uri,
                _ => $"[{block.Type}: only texts are passed on]",
            });
        }

        return text.Length == 0 && result.StructuredContent is { } structured ? structured.GetRawText() : text.ToString();
    }
}
